"""Who may listen, and to what: every refusal before the upgrade is a plain HTTP answer."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from libs.events.ids import partition_of
from libs.orders.rows import is_order_id
from libs.service.shared import SharedUnavailable
from libs.service.tokens import Claims, InvalidToken
from services.notifier.hub import Hub
from services.notifier.known import Views
from services.notifier.limits import Limits
from services.notifier.problems import (
    BUSY,
    INVALID_PARAMETER,
    NO_SUCH_ORDER,
    ORDER_NOT_FOUND,
    TICKET_INVALID,
    TOKEN_INVALID,
    TOO_MANY_CONNECTIONS,
    UNAVAILABLE,
    problem,
)

Verify = Callable[[str], Claims]
TakeTicket = Callable[[str], Awaitable[Claims | None]]
CURSOR_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class ListenRequest:
    """What a client wants to hear. `claims`: None while it has not said who it is; `orders`: None for all its own."""

    claims: Claims | None
    orders: set[str] | None
    cursor: str | None


class Access:
    """`verify` gives a token's claims or raises InvalidToken; `take_ticket` those of a ticket, once."""

    def __init__(
        self, hub: Hub, views: Views, verify: Verify, take_ticket: TakeTicket, partitions: int, limits: Limits
    ) -> None:
        self.verify, self.take_ticket, self.limits = verify, take_ticket, limits
        self._hub, self._views, self._partitions = hub, views, partitions
        self._open = 0
        self._open_of: Counter[str] = Counter()

    async def check(self, request: web.Request, *, cursor: str | None = None) -> ListenRequest | web.Response:
        """What is asked for, or why it is refused. `cursor`: where to go on; else the address may say it."""
        if not self._hub.open:
            return problem(request, UNAVAILABLE, "The log is not being read; try again.")
        if self._open >= self.limits.sockets_max:
            return problem(request, BUSY, "No more connections here; try again.")
        # EventSource comes back with the address it first had, and with the last id it saw.
        cursor = cursor or request.query.get("cursor") or None
        if cursor and len(cursor) > CURSOR_CHARS_MAX:
            return problem(request, INVALID_PARAMETER, "cursor is not one that was given out here.")
        claims = await self._claims(request)
        if isinstance(claims, web.Response):
            return claims
        orders = set(filter(None, request.query.getall("orderId", ())))
        if len(orders) > self.limits.orders_per_socket_max:
            most = self.limits.orders_per_socket_max
            return problem(request, INVALID_PARAMETER, f"A connection carries at most {most} orders by name.")
        if claims and self.too_many(claims.user_id):
            return problem(request, TOO_MANY_CONNECTIONS, "Close one first.")
        if not all(map(self.is_order_id, orders)) and claims:
            return problem(request, ORDER_NOT_FOUND, NO_SUCH_ORDER)
        return ListenRequest(claims, orders or None, cursor)

    def opened(self) -> None:
        """Count a connection, from when its orders are being read, or when it stands without a user yet."""
        self._open += 1

    def closed(self) -> None:
        self._open -= 1

    def opened_for(self, user: str) -> None:
        """A connection is this user's."""
        self._open_of[user] += 1

    def closed_for(self, user: str) -> None:
        self._open_of[user] -= 1
        if not self._open_of[user]:
            del self._open_of[user]

    def too_many(self, user: str) -> bool:
        return self._open_of[user] >= self.limits.sockets_per_user_max

    def is_order_id(self, text: str) -> bool:
        """Whether this log could have made the id: a lower-case UUID that ends in one of its partitions."""
        return is_order_id(text) and partition_of(text) < self._partitions

    async def _claims(self, request: web.Request) -> Claims | web.Response | None:
        if "Authorization" in request.headers:
            try:
                return self.verify(_bearer(request.headers["Authorization"]))
            except InvalidToken as error:
                return problem(request, TOKEN_INVALID, str(error))
        ticket = request.query.get("ticket")
        if ticket is None:
            return None
        try:
            claims = await self.take_ticket(ticket)
        except SharedUnavailable:
            return problem(request, UNAVAILABLE, "Tickets cannot be checked now; try again with a new one.")
        return claims or problem(request, TICKET_INVALID, "It was used, or is older than 30 seconds: get a new one.")


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise InvalidToken("The Authorization header must be: Bearer <token>.")
    return token.strip()
