"""The archive in pieces: each leaf holds some millions of positions of every partition. See `docs/adr/0020`.

Inserts and vacuum touch the last leaf only, whatever lies behind it; the oldest may be detached or dropped by itself.
"""

from libs.orders import sql
from libs.orders.connection import Connection, StoreUnavailable

POSITIONS_PER_LEAF = 2**22  # times the partitions: a leaf of four partitions takes about 15 GB


class Leaves:
    """Makes the leaf for what is about to be written."""

    def __init__(self, size: int = POSITIONS_PER_LEAF) -> None:
        self._size = size
        self._end = 0

    async def reach(self, connection: Connection, first: int, last: int) -> None:
        """Have leaves for these positions, as a part of the caller's transaction. The caller is the only writer.

        Raises:
            StoreUnavailable: this user of the database may not make them; the right may be granted at any time.
        """
        if last < self._end:
            return
        end = await connection.fetchval(sql.END_OF_LEAVES) or first - first % self._size
        if end <= last and (trouble := await trouble_ahead(connection)):
            raise StoreUnavailable(f"Postgres: {trouble}")
        while end <= last:
            begin, end = end, end - end % self._size + self._size
            await connection.execute(sql.MAKE_LEAF.format(leaf=f"events_{begin}", begin=begin, end=end))
        self._end = end

    def clear(self) -> None:
        """Somebody else may have made or removed some, or the transaction that did was rolled back."""
        self._end = 0


async def trouble_ahead(connection: Connection) -> str:
    """Why the next leaf cannot be made, however far away it is; empty: it can."""
    rights = await connection.fetchrow(sql.LEAF_RIGHTS)
    assert rights, "migrations make the table"
    missing = []
    if not rights["creates"]:
        missing.append(f"CREATE on the schema {rights['schema']}")
    if not rights["owns"]:
        missing.append(f"the rights of {rights['owner']}, who owns the table events")
    if not missing:
        return ""
    return f"{rights['who']} may not make the next leaf of the archive: it needs {' and '.join(missing)}"
