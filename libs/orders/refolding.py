"""Folding again what is archived: the writing side of a rebuild, which reads of the archive only what rows show."""

from hashlib import sha256
from pathlib import Path

from libs.events import envelope, model, reactions, upcast
from libs.events.ids import Position
from libs.events.model import OrderRequested, TxConfirmed
from libs.orders import copy_text, folding, heads, named, projection, rows, sql
from libs.orders.batch import Stretch
from libs.orders.connection import Connection, Row
from libs.orders.folding import Fold
from libs.orders.heads import Head, is_known, read_body
from libs.orders.projection import Writes

TOLD = [OrderRequested.__name__, TxConfirmed.__name__]

_READING = (envelope, model, reactions, upcast, heads, folding)
_WRITING = (named, rows, copy_text, projection, sql)  # and reading back what was written


def folded_by() -> str:
    """A name of the code that decides what rows say: what other code folded tells nothing of how this one folds."""
    files = (__file__, *(str(module.__file__) for module in (*_READING, *_WRITING)))
    return sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


class Heads(Stretch[Head]):
    """Heads of archived entries."""

    __slots__ = ()


class Refolding(Writes[Heads]):
    """Orders and checkpoint only: the archive is there."""

    def _touched(self, batch: Heads) -> tuple[set[str], set[str]]:
        return {head.order_id for head in batch.entries}, {h.order_id for h in batch.entries if h.version == 1}

    async def _take(self, _connection: Connection, _epoch: str, batch: Heads, fold: Fold) -> None:
        for head in batch.entries:
            fold.take(head)


async def heads_after(connection: Connection, partition: int, after: int, count: int) -> list[Head]:
    """Up to `count` archived entries of a partition beyond position `after`."""
    return [_head(row) for row in await connection.fetch(sql.TO_FOLD, partition, after, count, TOLD)]


def _head(row: Row) -> Head:
    partition, ms, position, order_id, user, version, kind, v, time, data = row
    told = read_body(kind, v, data) if data else (is_known(kind, v), None, None)
    return Head(partition, Position(ms, position), order_id, user, version, kind, v, time, *told)
