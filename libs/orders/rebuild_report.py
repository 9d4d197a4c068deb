"""What a rebuild did, and in which orders its tables differ from the live ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from libs.events.ids import Position
from libs.orders import sql
from libs.orders.connection import Connection, Row

COMPARE_TIMEOUT_S = 3_600
SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """An order that is not the same on both sides. `fields`: name to (live, rebuilt); a side without it has None."""

    order_id: str
    fields: Mapping[str, tuple[object, object]]


@dataclass
class Report:
    """What a rebuild did. `differences` holds the first of them, `differing` counts them all."""

    events: int = 0
    seconds: float = 0.0
    orders: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    switched: bool = False


async def note_differences(
    connection: Connection, schema: str, since: Mapping[int, Position], report: Report, *, late: bool
) -> None:
    """Put into the report how the tables in `schema` differ: where orders went on after `since`, or where not."""
    await connection.execute(sql.COMPARING)
    query = sql.DIFFERENCES.format(schema=schema, late="" if late else "NOT")
    positions = [position.position for position in since.values()]
    async for row in connection.cursor(query, list(since), positions, timeout=COMPARE_TIMEOUT_S):
        report.differing += 1
        if len(report.differences) < SHOWN_MAX:
            report.differences.append(_difference(row))


def _difference(row: Row) -> Difference:
    live, rebuilt = (orjson.loads(row[side]) if row[side] else {} for side in ("live", "shadow"))
    names = sorted(live.keys() | rebuilt.keys())
    changed = {n: (live.get(n), rebuilt.get(n)) for n in names if live.get(n) != rebuilt.get(n)}
    return Difference(str(row["id"]), changed)
