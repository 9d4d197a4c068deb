"""Orders as they are now: the log's truth first, Postgres for what the log no longer holds."""

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from libs.events.envelope import Envelope
from libs.events.errors import VersionGap
from libs.events.ids import Position
from libs.events.log import Reads, Snapshot
from libs.events.order import Order
from libs.events.reactions import TERMINAL
from libs.orders.connection import StoreBehind
from libs.orders.listed import Listed, listed

PAGE_MAX = 200


class Log(Reads, Protocol):
    """What views ask of the log."""

    async def find(self, order_id: str) -> Snapshot | None: ...


class Store(Protocol):
    """What views ask of the projection and the archive; `OrderStore` is one."""

    async def get(self, order_id: str) -> Order | None: ...

    async def get_many(self, order_ids: Sequence[str]) -> dict[str, Order]: ...

    async def by_client_id(self, user: str, client_id: str) -> Order | None: ...

    async def newest(self, user: str, before: str | None, limit: int) -> list[Listed]: ...

    async def history(self, order_id: str) -> list[tuple[Envelope, Position]]: ...


class OrderViews:
    """An order can be read the instant its 202 leaves, and never looks older than the log knows it to be.

    The projection lags, so the log is asked first; the log forgets an order a day after it ends, so Postgres is next.
    """

    def __init__(self, log: Log, store: Store) -> None:
        self._log = log
        self._store = store

    async def get(self, order_id: str) -> Order | None:
        """The order, or None when there is none. `order_id` must be one this system could have made.

        Raises:
            ValueError: neither the log's nor the archive's can be read by this release.
        """
        unreadable = None
        try:
            snapshot = await self._log.find(order_id)
        except ValueError as error:
            snapshot, unreadable = None, error
        found = snapshot.order if snapshot else await self._store.get(order_id)
        if unreadable and not found:
            raise unreadable
        return found

    async def by_client_id(self, user: str, client_id: str) -> Order | None:
        """The newest order the user gave this id to that is projected; younger ones the log knows by their key."""
        found = await self._store.by_client_id(user, client_id)
        return await self.get(found.id) if found and found.status not in TERMINAL else found

    async def many(self, order_ids: Collection[str]) -> dict[str, Order]:
        """These orders, without those that do not exist."""
        live = await self._log.find_many(list(order_ids)) if order_ids else {}
        found = {order_id: snapshot.order for order_id, snapshot in live.items()}
        missing = [order_id for order_id in order_ids if order_id not in found]
        return found | (await self._store.get_many(missing) if missing else {})

    async def newest(self, user: str, before: str | None, limit: int) -> tuple[list[Order], str | None]:
        """One page of a user's orders, newest first, and the cursor of the next page (None: this is the last).

        `before` is the last cursor given out. Ids are UUIDv7 in lower case, so descending ids are newest first.
        """
        page, cursor = await self.listed(user, before, limit)
        orders = await self.whole(page)
        return [orders[one.id] for one in page if one.id in orders], cursor

    async def listed(self, user: str, before: str | None, limit: int) -> tuple[list[Listed], str | None]:
        """`newest` without the orders' events, but for those that have not ended: these are whole.

        Raises:
            StoreBehind: some are neither named by the log any more nor projected yet.
        """
        wanted = min(limit, PAGE_MAX) + 1  # one more tells whether there is a next page
        # The log first: an order projected between the two reads is then in both, never in neither.
        recent = await self._log.recent(user, before, wanted)
        if before and len(recent) < wanted:  # else all of the page is named by the log
            await self._check_no_hole(user)
        stored = {one.id: one for one in await self._store.newest(user, before, wanted)}
        ids = sorted({*recent, *stored}, reverse=True)[:wanted]
        shown, more = ids[: wanted - 1], len(ids) == wanted
        open_ids = [i for i in shown if i not in stored or not stored[i].archived_end]  # an ended order is final
        live = await self._log.find_many(open_ids) if open_ids else {}
        stored |= {order_id: listed(snapshot.order) for order_id, snapshot in live.items()}
        # The cursor is the last id, not the last order: an id that is gone from both must not end the listing.
        return [stored[order_id] for order_id in shown if order_id in stored], shown[-1] if more else None

    async def _check_no_hole(self, user: str) -> None:
        """Orders are projected one after the other: with the oldest the log names come all that are older."""
        oldest = await self._log.recent_since(user)
        if oldest is None:
            return
        just_above = str(UUID(int=UUID(oldest).int + 1))
        if [one.id for one in await self._store.newest(user, just_above, 1)] != [oldest]:
            raise StoreBehind("the projection lacks more orders of this user than the log names")

    async def whole(self, page: Sequence[Listed]) -> dict[str, Order]:
        """The orders of a list; without those whose events are gone."""
        missing = [one.id for one in page if one.order is None]
        found = await self._store.get_many(missing) if missing else {}
        return found | {one.id: one.order for one in page if one.order}

    async def history(self, order_id: str) -> list[tuple[Envelope, Position]]:
        """Every event of the order with its position, in version order; empty when there is no such order.

        The first ones are missing where the archive let them go: a leaf of it was dropped.

        Raises:
            VersionGap: neither the archive nor the log has an event behind the first they have.
        """
        # The log first: an event archived and trimmed between the two reads is then in both, never in neither.
        live = [(entry.decode(), entry.at) for entry in await self._log.history(order_id)]
        if live and live[0][0].version == 1:
            return _contiguous(order_id, live)
        archived = await self._store.history(order_id)
        merged = {event.version: (event, at) for event, at in [*archived, *live]}
        return _contiguous(order_id, [merged[version] for version in sorted(merged)])


def _contiguous(order_id: str, events: Sequence[tuple[Envelope, Position]]) -> list[tuple[Envelope, Position]]:
    first = events[0][0].version if events else 1
    for version, (event, _) in enumerate(events, start=first):
        if event.version != version:
            raise VersionGap(order_id, expected=version, found=event.version, detail="in its history")
    return list(events)
