"""Quotes: what an order would get now, with a name by which an order may hold the system to it for some seconds.

A quote is kept nowhere: its id carries what was quoted, signed. An order placed under it settles at no less than the
quote's least amount, or not at all.
"""

import asyncio
import base64
import hmac
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import orjson

from libs.events.model import Reason, RouteSelected, Status
from libs.events.order import Order
from libs.events.retry import RetryPolicy
from libs.orders.presentation import candidate_body, order_body, route_body, shown_time
from libs.quoting.choice import decide
from libs.quoting.venues import Venues
from libs.service.door import connections_max
from libs.venues.tokens import Token, to_decimal_text
from services.gateway import limits
from services.gateway.bodies import FieldError, Invalid
from services.gateway.problems import Problem

_ONCE = RetryPolicy(attempts_max=1, base_ms=1, cap_ms=1)
_PREFIX = "q1."


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be swapped. `amount_in`: base units."""

    token_in: Token
    token_out: Token
    amount_in: int
    slippage_bps: int


@dataclass(frozen=True, slots=True)
class Given:
    """A quote: its least and expected amount out in base units, and the body that shows it."""

    out: int
    least: int
    expires_at: datetime
    body: dict[str, object]


class Quotes:
    """`secrets`: the first signs, all are accepted; `clock` is UTC."""

    def __init__(self, venues: Venues, secrets: tuple[str, ...], clock: Callable[[], datetime]) -> None:
        self._venues, self._clock = venues, clock
        self._keys = [sha256(b"quotes:" + secret.encode()).digest() for secret in secrets]
        self._streams: Counter[str] = Counter()
        self.closing = asyncio.Event()

    async def quote(self, asked: Asked, user: str) -> Given:
        """The best route now, and what every venue answered.

        Raises:
            Problem: nobody quotes, or can be asked.
        """
        now = self._clock()
        order = _as_order(asked, user, now)
        (answers,) = await self._venues.ask([order])
        decision = decide(order, answers, now=now, fraction=0, policy=_ONCE)
        if not isinstance(decision, RouteSelected):
            reason, detail = str(getattr(decision, "reason", "no_route")), str(getattr(decision, "detail", ""))
            if reason == Reason.VENUES_UNAVAILABLE:
                raise Problem("venues_unavailable", f"No venue answers: {detail}", reason=reason)
            raise Problem("no_quote", f"No venue quotes this: {detail}", reason=reason)
        route = decision.route
        expires_at = now + limits.QUOTE_FIRM_FOR
        shown = order_body(order)
        body: dict[str, object] = {
            "quoteId": self._sign(asked, user, route.min_out, expires_at),
            "expiresAt": shown_time(expires_at),
            **{name: shown[name] for name in ("tokenIn", "tokenOut", "amount", "slippageBps")},
            "amountOut": to_decimal_text(route.quoted_out, asked.token_out),
            "minAmountOut": to_decimal_text(route.min_out, asked.token_out),
            "priceImpactPpm": next(c.price_impact_ppm for c in decision.candidates if c.outcome == "selected"),
            "route": route_body(route, order.token_in, order.token_out),
            "candidates": [candidate_body(candidate, order.token_out) for candidate in decision.candidates],
        }
        return Given(route.quoted_out, route.min_out, expires_at, body)

    async def improvements(self, asked: Asked, user: str, wanted: Callable[[], bool]) -> AsyncIterator[Given | None]:
        """The first quote, then each that gives more, or that follows one which has expired; None: nobody quotes now.

        It ends when nobody has `wanted` it any more.

        Raises:
            Problem: nobody quotes at the first look; later ones are waited out.
        """
        best = await self.quote(asked, user)
        yield best
        ends = asyncio.get_running_loop().time() + limits.QUOTE_STREAM_S
        while not self.closing.is_set() and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(limits.QUOTE_EVERY_S)
            if not wanted():
                return
            try:
                found = await self.quote(asked, user)
            except Problem:
                yield None
                continue
            if found.out > best.out or best.expires_at <= self._clock():
                best = found
                yield best

    @contextmanager
    def streaming(self, who: str) -> Iterator[None]:
        """While a stream is open; raises Problem when there are too many."""
        if self._streams[who] >= limits.QUOTE_STREAMS_PER_USER_MAX:
            raise Problem("rate_limited", "Too many streams of quotes: close one.", headers={"Retry-After": "1"})
        if self._streams.total() >= min(limits.QUOTE_STREAMS_MAX, connections_max() // limits.QUOTE_STREAMS_ONE_IN):
            raise Problem("busy", "Too many streams of quotes are open.")
        self._streams[who] += 1
        try:
            yield
        finally:
            self._streams[who] -= 1
            if not self._streams[who]:
                del self._streams[who]

    def least_of(self, quote_id: str, asked: Asked, user: str) -> int:
        """The least amount out that was promised under this id.

        Raises:
            Invalid: it is no quote of this user's, for something else, or too old.
        """
        quoted = self._verify(quote_id)
        if quoted is None or quoted[0] != user:
            raise _wrong("quote_unknown", "This is no quote of yours.")
        if quoted[1:5] != [asked.token_in.mint, asked.token_out.mint, str(asked.amount_in), asked.slippage_bps]:
            raise _wrong("quote_differs", "The quote was for other tokens, another amount or another slippage.")
        if self._clock().timestamp() * 1000 >= int(quoted[6]):
            raise _wrong("quote_expired", "The quote has expired: get a new one.")
        return int(quoted[5])

    def _sign(self, asked: Asked, user: str, least: int, expires_at: datetime) -> str:
        expires_ms = int(expires_at.timestamp() * 1000)
        parts = [user, asked.token_in.mint, asked.token_out.mint, str(asked.amount_in), asked.slippage_bps]
        payload = orjson.dumps([*parts, str(least), expires_ms])
        return _PREFIX + _text(payload) + "." + _text(hmac.digest(self._keys[0], payload, "sha256"))

    def _verify(self, quote_id: str) -> list[str | int] | None:
        payload, _, signature = quote_id.removeprefix(_PREFIX).partition(".")
        try:
            raw, signed = base64.urlsafe_b64decode(payload + "=="), base64.urlsafe_b64decode(signature + "==")
        except ValueError:
            return None
        ours = any(hmac.compare_digest(signed, hmac.digest(key, raw, "sha256")) for key in self._keys)
        return list(orjson.loads(raw)) if ours and quote_id.startswith(_PREFIX) else None


def _as_order(asked: Asked, user: str, now: datetime) -> Order:
    return Order(
        id="",
        user=user,
        version=1,
        status=Status.PENDING,
        token_in=asked.token_in.symbol,
        token_out=asked.token_out.symbol,
        mint_in=asked.token_in.mint,
        mint_out=asked.token_out.mint,
        amount_in=asked.amount_in,
        slippage_bps=asked.slippage_bps,
        expires_at=now + timedelta(minutes=1),
        created_at=now.astimezone(UTC),
        updated_at=now,
        attempt=1,
    )


def _wrong(code: str, detail: str) -> Invalid:
    return Invalid(FieldError("#/quoteId", code, detail))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
