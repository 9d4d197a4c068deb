"""The client: everything the API offers to those who place orders."""

from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from libs.client.entry import Entry
from libs.client.errors import NotSettled
from libs.client.transport import TRIES_MAX, RateLimit, Transport
from libs.client.types import Event, Order, Quote
from libs.client.watching import PING_EVERY_S, Watching

Amount = str | int | Decimal


class Client:
    """`async with Client(url, token=…) as client:`; `token` is an access token or an API key.

    Every method raises ApiError for what the API refuses, and Unreachable when it cannot be asked.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str = "",
        refresh_token: str = "",
        tries_max: int = TRIES_MAX,
        ping_every_s: float = PING_EVERY_S,
    ) -> None:
        """With `refresh_token` the access token is renewed when it has expired."""
        self._transport = Transport(base_url, token=token, refresh_token=refresh_token, tries_max=tries_max)
        self._ping_every_s = ping_every_s

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    @property
    def request_id(self) -> str:
        """Of the last answer: the name under which support finds it."""
        return self._transport.request_id

    @property
    def rate_limit(self) -> RateLimit | None:
        """What may still be asked, as the last answer told."""
        return self._transport.rate_limit

    # Who one is

    async def sign_up(self, email: str, password: str, name: str | None = None) -> str:
        """Make an account and go on as it; gives the user id."""
        return await self._begin("/api/auth/signup", {"email": email, "password": password, "name": name})

    async def log_in(self, email: str, password: str) -> str:
        """Go on as this account; gives the user id."""
        return await self._begin("/api/auth/login", {"email": email, "password": password})

    async def change_password(self, email: str, password: str, new_password: str) -> str:
        """End every session of this account and go on with a new one; gives the user id."""
        body = {"email": email, "password": password, "newPassword": new_password}
        return await self._begin("/api/auth/password", body)

    async def _begin(self, path: str, body: Mapping[str, str | None]) -> str:
        given = await self._transport.ask("POST", path, body)
        self._transport.go_on_as(given["token"], given["refreshToken"])
        return str(given["userId"])

    async def log_out(self) -> None:
        """End the session; its access token holds for the minutes it has left."""
        await self._transport.end_session()

    async def make_api_key(self, name: str, scopes: Sequence[str]) -> str:
        """The key itself, which is told only now. `scopes`: of orders:read, orders:write."""
        return str((await self._transport.ask("POST", "/api/keys", {"name": name, "scopes": [*scopes]}))["key"])

    # Before an order

    async def tokens(self) -> list[dict[str, Any]]:
        """What orders may name: `symbol`, `mint`, `decimals`."""
        return list((await self._transport.ask("GET", "/api/tokens"))["tokens"])

    async def quote(self, token_in: str, token_out: str, amount: Amount, *, slippage_bps: int | None = None) -> Quote:
        """What an order would get now."""
        asked = _quoted(token_in, token_out, amount, slippage_bps)
        return Quote.of(await self._transport.ask("GET", "/api/quotes", params=asked))

    async def quotes(
        self, token_in: str, token_out: str, amount: Amount, *, slippage_bps: int | None = None
    ) -> AsyncIterator[Quote]:
        """Better and better quotes, for some minutes; after one that has expired comes the best there is then."""
        asked = _quoted(token_in, token_out, amount, slippage_bps)
        async with self._transport.stream("/api/quotes/stream", asked) as told:
            async for body in told:
                yield Quote.of(body)

    # Orders

    async def place(
        self, token_in: str, token_out: str, amount: Amount, *, key: str | None = None, **terms: Any
    ) -> Order:
        """Place an order. It is repeated under one key until there is an answer: there is never a second order.

        `terms` as in the API: slippageBps, limitPrice, minAmountOut, timeInForce, expiresAt, clientOrderId, quoteId,
        metadata.
        """
        body = {"tokenIn": token_in, "tokenOut": token_out, "amount": str(amount), **terms}
        key = key or str(terms.get("clientOrderId") or uuid4())
        return Order.of(await self._transport.ask("POST", "/api/orders", body, key=key))

    async def place_many(self, orders: Sequence[Mapping[str, Any]], *, key: str | None = None) -> list[dict[str, Any]]:
        """Place up to 100 orders at once; gives an outcome for each: an `order` or a `problem`."""
        body = {"orders": [dict(order) for order in orders]}
        answer = await self._transport.ask("POST", "/api/orders/batch", body, key=key or str(uuid4()))
        return list(answer["results"])

    async def order(self, order_id: str) -> Order:
        """One order."""
        return Order.of(await self._transport.ask("GET", f"/api/orders/{order_id}"))

    async def order_by_client_id(self, client_order_id: str) -> Order:
        """One order, by the id you gave it, or by the key it was placed under."""
        named = quote(client_order_id, safe="")  # a key may hold what would end the path
        return Order.of(await self._transport.ask("GET", f"/api/orders/by-client-id/{named}"))

    async def orders(self, *, status: Sequence[str] = ()) -> AsyncIterator[Order]:
        """All orders, newest first, page by page."""
        asked = {"limit": "200", **({"status": ",".join(status)} if status else {})}
        while True:
            page = await self._transport.ask("GET", "/api/orders", params=asked)
            for body in page["orders"]:
                yield Order.of(body)
            if page["nextCursor"] is None:
                return
            asked["cursor"] = page["nextCursor"]

    async def history(self, order_id: str) -> list[Event]:
        """Every event of an order so far."""
        body = await self._transport.ask("GET", f"/api/orders/{order_id}/events")
        return [Event.of(event) for event in body["events"]]

    async def cancel(self, order_id: str) -> Order:
        """Cancel an order that is not submitted yet; cancelling again is no error."""
        return Order.of(await self._transport.ask("DELETE", f"/api/orders/{order_id}"))

    async def cancel_many(self, order_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Cancel up to 100 orders; gives an outcome for each: an `order` or a `problem`."""
        # Cancelling again is no error, so this POST may be repeated as if it had a key.
        answer = await self._transport.ask("POST", "/api/orders/cancel", {"orderIds": [*order_ids]}, key=str(uuid4()))
        return list(answer["results"])

    def entry(self) -> Entry:
        """A socket for many orders: `async with client.entry() as entry: await entry.place(…)`."""
        return Entry(self._transport)

    # Live

    def watch(self, order_id: str | None = None) -> AsyncIterator[Event]:
        """Every event once and in order: of one order from its first to its last, or of all orders from now on."""
        return Watching(self._transport, order_id, self._ping_every_s).events()

    async def swap(self, token_in: str, token_out: str, amount: Amount, **terms: Any) -> Order:
        """Place an order and wait for its end; gives it CONFIRMED.

        Raises:
            NotSettled: it ended otherwise.
        """
        placed = await self.place(token_in, token_out, amount, **terms)
        async for _event in self.watch(placed.order_id):
            pass
        ended = await self.order(placed.order_id)
        if ended.status != "CONFIRMED":
            raise NotSettled(ended)
        return ended


def _quoted(token_in: str, token_out: str, amount: Amount, slippage_bps: int | None) -> dict[str, str]:
    more = {} if slippage_bps is None else {"slippageBps": str(slippage_bps)}
    return {"tokenIn": token_in, "tokenOut": token_out, "amount": str(amount), **more}
