"""Orders from their rows: a row names the events an order folds from, and the archive has them. See `docs/adr/0023`."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from libs.events.envelope import Envelope, event_of
from libs.events.model import Status
from libs.events.order import Order, fold_latest
from libs.events.trusted import changed, trusted
from libs.orders import sql
from libs.orders.connection import Connection, Row
from libs.orders.folding import Outline


async def orders_of(connection: Connection, rows: Sequence[Row]) -> list[Order]:
    """The orders of these rows, in their order; without those of which the archive let go.

    What a row itself says goes before what the events say: a row that is wrong is seen to be.
    """
    events: dict[str, list[Envelope]] = {}
    for found in await connection.fetch(sql.NAMED, *_named(rows)) if rows else ():
        events.setdefault(found["order_id"], []).append(_event(found))
    whole = ((row, events.get(str(row["id"]), [])) for row in rows)
    return [_order(row, named) for row, named in whole if named and len(named) == len(row["latest"])]


async def outlines_of(connection: Connection, rows: Sequence[Row]) -> dict[str, Outline]:
    """What a projection must know of these orders to go on with them."""
    outlines = {
        str(row["id"]): Outline(
            row["version"],
            row["status"],
            row["updated_at"],
            None if row["amount_out"] is None else int(row["amount_out"]),
            # Events the archive let go of stay named, under a type nobody has.
            {("", version): version for version in row["latest"]},
        )
        for row in rows
    }
    for found in await connection.fetch(sql.KINDS_NAMED, *_named(rows)) if rows else ():
        latest = outlines[found["order_id"]].latest
        latest[found["type"], found["v"]] = latest.pop(("", found["version"]))
    return outlines


def _named(rows: Sequence[Row]) -> tuple[list[Any], list[int]]:
    return [row["id"] for row in rows for _ in row["latest"]], [version for row in rows for version in row["latest"]]


def _event(row: Row) -> Envelope:
    order_id, version = row["order_id"], row["version"]
    return trusted(
        Envelope,
        {
            "id": f"{order_id}/{version}",
            "type": row["type"],
            "v": row["v"],
            "source": row["source"],
            "subject": order_id,
            "user": row["user_id"],
            "version": version,
            "time": row["time"],
            "cause": row["cause"],
            "traceparent": row["traceparent"],
            "data": event_of(row["type"], row["v"], row["data"]),
        },
    )


def _order(row: Row, events: list[Envelope]) -> Order:
    amount_out = row["amount_out"]
    said = {
        "version": row["version"],
        "status": Status(row["status"]),
        "updated_at": row["updated_at"],
        "amount_out": None if amount_out is None else int(amount_out),
    }
    return changed(fold_latest(sorted(events, key=attrgetter("version"))), said)
