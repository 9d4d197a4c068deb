"""The statements of `libs.orders.store`."""

from collections.abc import Iterable, Mapping

from libs.orders.rows import EVENT_COLUMNS, ORDER_COLUMNS


def _names(columns: Iterable[str]) -> str:
    return ", ".join(columns)


def _arrays(columns: Mapping[str, str]) -> str:
    return ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(columns.values(), start=1))


_EVENTS = _names(EVENT_COLUMNS)
_ORDERS = _names(ORDER_COLUMNS)
_FIXED = ("id", "user_id", "token_in", "token_out", "amount_in", "created_at")
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in ORDER_COLUMNS if name not in _FIXED)

# S608: only the column names and types above are put in; every value is a parameter.
UPSERT_ORDERS = f"""
INSERT INTO orders ({_ORDERS}) SELECT * FROM unnest({_arrays(ORDER_COLUMNS)})
ON CONFLICT (id) DO UPDATE SET {_CHANGES} WHERE orders.version < excluded.version"""  # noqa: S608

START_CHECKPOINTS = """
INSERT INTO checkpoints (projection, partition, epoch, ms, position)
SELECT $1, partition, $2, 0, 0 FROM unnest($3::smallint[]) AS partition
ON CONFLICT DO NOTHING"""

CHECKPOINTS = "SELECT partition, epoch, ms, position FROM checkpoints WHERE projection = $1 ORDER BY partition"

# A transaction whose COMMIT was sent but never answered may still be running: the lock waits until it is over.
LOCK_CHECKPOINTS = f"{CHECKPOINTS} FOR UPDATE"

MOVE_CHECKPOINTS = """
UPDATE checkpoints SET ms = moved.ms, position = moved.position, updated_at = now()
FROM unnest($3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[]) AS moved (partition, expected, ms, position)
WHERE checkpoints.projection = $1 AND checkpoints.epoch = $2 AND checkpoints.partition = moved.partition
  AND checkpoints.position = moved.expected"""

ORDER = "SELECT state FROM orders WHERE id = $1"
ORDERS = "SELECT state FROM orders WHERE id = ANY($1::uuid[])"
NEWEST = "SELECT state FROM orders WHERE user_id = $1 ORDER BY id DESC LIMIT $2"
NEWEST_BEFORE = "SELECT state FROM orders WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
HISTORY = f"SELECT {_EVENTS} FROM events WHERE order_id = $1 ORDER BY version"  # noqa: S608
ARCHIVED = f"SELECT {_EVENTS} FROM events WHERE partition = $1 AND position > $2 ORDER BY position LIMIT $3"  # noqa: S608
