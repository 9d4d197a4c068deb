"""What happens for each address that only reads: orders, their events, tokens."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

import orjson
from aiohttp import hdrs, web

from libs.events.crash import crossing
from libs.events.ids import Cursor, Position, partition_of, partition_of_user
from libs.events.log import Entry
from libs.events.model import Status
from libs.events.order import Order
from libs.orders.listed import Listed
from libs.orders.presentation import Body, event_body, order_body
from libs.orders.resume import NotResumable, pages_after, position_of
from libs.orders.shown import Shown
from libs.orders.views import PAGE_MAX
from libs.service.turns import Turns
from libs.venues.tokens import TOKENS
from services.gateway import limits
from services.gateway.answers import answer
from services.gateway.asking import ORDER_ID, Asking, etag, named, order_answer
from services.gateway.dto import is_key
from services.gateway.parts import Parts
from services.gateway.problems import Problem
from services.gateway.reading import page_size
from services.gateway.times import parse_time

_TOKENS = [{"symbol": token.symbol, "mint": token.mint, "decimals": token.decimals} for token in TOKENS.values()]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which orders a list shows. `since`: the least id."""

    statuses: frozenset[Status]
    since: str | None

    @property
    def chooses(self) -> bool:
        return bool(self.statuses) or self.since is not None

    def shows(self, order: Listed) -> bool:
        return not self.statuses or order.status in self.statuses

    def ends_before(self, order: Listed) -> bool:
        return self.since is not None and order.id < self.since


class Lookups:
    """Every handler; `services.gateway.app` says which address each has."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._asking = parts, Asking(parts)
        self._of_lists = Shown(parts.views, limits.SHOWN_ORDERS_KEPT)
        self._turns = Turns(limits.READERS_AT_ONCE, limits.READERS_OF_USER)

    async def tokens(self, _request: web.Request) -> web.Response:
        """GET /api/tokens."""
        return answer({"tokens": _TOKENS}, headers={"Cache-Control": "public, max-age=3600"})

    async def list_orders(self, request: web.Request) -> web.Response:
        """GET /api/orders?limit=&cursor=&status=&from=&to=&expand=events."""
        user = await self._asking.reader(request)
        _check_parameters(request, "limit", "cursor", "status", "from", "to", "expand")
        limit, cursor = page_size(request), _start(request)
        wanted = Wanted(_statuses(request), _id_at(_time(request, "from")))
        if expanded := _expanded(request):
            limit = min(limit, limits.EXPANDED_ORDERS_MAX)
        with crossing("orders.list"):
            page, following = await self._page(user, cursor, limit, wanted)
            bodies = await self._with_events(user, page) if expanded else await self._bodies(page)
        following_at = request.rel_url.update_query(cursor=following or "")
        link = {"Link": f'<{following_at}>; rel="next"'} if following else {}
        return answer({"orders": bodies, "nextCursor": following}, headers=link)

    async def _page(self, user: str, cursor: str | None, limit: int, wanted: Wanted) -> tuple[list[Listed], str | None]:
        """Look through a user's orders until the page is full; a filter that finds little may give a short page."""
        found: list[Listed] = []
        scanned = 0
        # What is chosen from is read in long pages, however few are asked for.
        size = PAGE_MAX if wanted.chooses else limit
        while True:
            page, cursor = await self._parts.views.listed(user, cursor, size)
            for order in page:
                if wanted.ends_before(order):
                    return found, None
                if not wanted.shows(order):
                    continue
                found.append(order)
                if len(found) == limit:
                    return found, order.id if cursor or order is not page[-1] else None
            scanned += len(page)
            if cursor is None or scanned >= limits.SCANNED_ORDERS_MAX:
                return found, cursor

    async def _bodies(self, page: Sequence[Listed]) -> Sequence[Body | orjson.Fragment]:
        return [one.body for one in await self._of_lists.of(page)]

    async def _with_events(self, user: str, page: Sequence[Listed]) -> Sequence[Body]:
        async with self._turn(user):
            orders = await self._parts.views.whole(page)
            return [await self._expanded(orders[one.id]) for one in page if one.id in orders]

    def _turn(self, user: str) -> AbstractAsyncContextManager[None]:
        return self._turns.of(user, limits.TURN_WAIT_S, limits.ROOM_WAIT_S)

    async def get_order(self, request: web.Request) -> web.Response:
        """GET /api/orders/{id}?expand=events."""
        order = await self._asking.owned(request.match_info["order_id"], await self._asking.reader(request))
        return await self._shown(request, order)

    async def get_by_client_id(self, request: web.Request) -> web.Response:
        """GET /api/orders/by-client-id/{clientOrderId}: from the log, so it is there as soon as the order is."""
        user, client_id = await self._asking.reader(request), request.match_info["client_id"]
        order = await self._by_client_id(user, client_id) if is_key(client_id) else None
        if order is None:
            raise Problem("order_not_found", "You have no order with this clientOrderId.")
        return await self._shown(request, order)

    async def _by_client_id(self, user: str, client_id: str) -> Order | None:
        order_id = await self._asking.log().order_of_key(user, client_id)
        order = await self._parts.views.get(order_id) if order_id else None
        return order or await self._parts.views.by_client_id(user, client_id)

    async def _shown(self, request: web.Request, order: Order) -> web.Response:
        if named(request.headers.get(hdrs.IF_NONE_MATCH), order, weak=True):
            return web.Response(status=304, headers={"ETag": etag(order)})
        if not _expanded(request):
            return order_answer(order)
        return answer(await self._expanded(order), headers={"ETag": etag(order)})

    async def _expanded(self, order: Order) -> dict[str, object]:
        # Without what happened after the order was read: the two would contradict each other.
        history = await self._history(order)
        return {**order_body(order), "events": [body for version, body in history if version <= order.version]}

    async def get_events(self, request: web.Request) -> web.Response:
        """GET /api/orders/{id}/events."""
        order = await self._asking.owned(request.match_info["order_id"], await self._asking.reader(request))
        history = await self._history(order)
        missing = history[0][0] - 1 if history else order.version
        return answer({"events": [body for _, body in history], "missing": missing})

    async def _history(self, order: Order) -> list[tuple[int, Body]]:
        """What is left of it, by version."""
        # The epoch of what is read, though another log may be open by then, where the same places are other events'.
        epoch, partition = self._asking.log().epoch, partition_of(order.id)
        return [
            (event.version, event_body(event, str(Cursor(epoch, partition, at)), order))
            for event, at in await self._parts.views.history(order.id)
        ]

    async def events_after(self, request: web.Request) -> web.Response:
        """GET /api/events?cursor=&limit=: what the WebSocket would have told since, as one page of JSON."""
        user = await self._asking.reader(request)
        _check_parameters(request, "limit", "cursor")
        limit, log = page_size(request), self._asking.log()
        partition = partition_of_user(user, log.partitions)
        cursor = request.query.get("cursor")
        if cursor is None:
            return answer({"events": [], "cursor": str(Cursor(log.epoch, partition, await log.tip(partition)))})
        epoch = log.epoch  # of all that is read from here on, though another log may be open before it is told
        after = position_of(cursor, self._parts.reads, user)
        much = (await log.tip(partition)).position - after.position > limits.READ_FREELY
        async with self._turn(user) if much else nullcontext():
            found, after = await self._found(user, after, limit)
        if log.epoch != epoch:
            raise NotResumable("The log was repaired while it was read.")
        asked = {entry.fields["subject"] for entry in found[:limit]}
        orders = await self._parts.views.many(asked)
        if asked - orders.keys():  # it ended long ago, and its first events went with a leaf of the archive
            raise NotResumable("What followed the cursor is gone: an order of it is not kept any more.")
        events = [
            event_body(entry.decode(), str(Cursor(epoch, partition, entry.at)), orders[entry.fields["subject"]])
            for entry in found[:limit]
        ]
        return answer({"events": events, "cursor": str(Cursor(epoch, partition, after))})

    async def _found(self, user: str, after: Position, limit: int) -> tuple[list[Entry], Position]:
        """The user's entries behind a place, and how far that was read."""
        found = list[Entry]()
        async for entries, at in pages_after(self._parts.reads, user, after, limits.RESUME_ENTRIES_MAX):
            found += entries
            after = found[limit - 1].at if len(found) >= limit else at
            if len(found) >= limit:
                break
        return found, after


def _check_parameters(request: web.Request, *known: str) -> None:
    """A filter that is misspelt must not show everything."""
    if unknown := sorted(request.query.keys() - set(known)):
        name = unknown[0][: limits.ECHO_CHARS_MAX]
        raise Problem("invalid_parameter", f"There is no parameter {name}; known are {', '.join(known)}.")


def _start(request: web.Request) -> str | None:
    """Where the page begins: the cursor, or the end of the time asked for, whichever is earlier."""
    cursor, to = request.query.get("cursor"), _id_at(_time(request, "to"))
    if cursor is not None and not ORDER_ID.fullmatch(cursor):
        raise Problem("invalid_parameter", "cursor is not one this list gave out.")
    return cursor if to is None else min(cursor or to, to)


def _id_at(time: datetime | None) -> str | None:
    """The least id of this time. Ids are UUIDv7: they begin with the millisecond in which they were made.

    Both ends of a list are told by ids: what an order is dated by is a moment earlier, and of two lists that meet
    neither would have it.
    """
    if time is None:
        return None
    ms = f"{max(0, int(time.timestamp() * 1000)):012x}"
    return f"{ms[:8]}-{ms[8:12]}-7000-8000-000000000000"


def _statuses(request: web.Request) -> frozenset[Status]:
    text = ",".join(request.query.getall("status", ()))  # some write a list by repeating its name
    try:
        return frozenset(Status(name.strip().upper()) for name in text.split(",")) if text else frozenset()
    except ValueError:
        known = ", ".join(Status)
        raise Problem("invalid_parameter", f"status is a list of any of {known}, by commas.") from None


def _time(request: web.Request, name: str) -> datetime | None:
    text = request.query.get(name)
    try:
        # In an address a plus is a blank.
        return parse_time(text.replace(" ", "+")) if text else None
    except ValueError:
        raise Problem(
            "invalid_parameter", f"{name} must be RFC 3339 with an offset, e.g. 2030-01-31T12:00:00Z."
        ) from None


def _expanded(request: web.Request) -> bool:
    text = ",".join(request.query.getall("expand", ()))  # as with status
    parts = {part.strip() for part in text.split(",") if part.strip()}
    if not parts <= {"events", "route"}:
        raise Problem("invalid_parameter", "expand is a list of any of events, route (which is always there).")
    return "events" in parts
