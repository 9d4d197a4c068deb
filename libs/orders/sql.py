"""The statements of `libs.orders.store`."""

from uuid import UUID

from libs.orders.rows import EVENT_COLUMNS

_EVENTS = ", ".join(EVENT_COLUMNS)

# Every statement goes by key. A plan made while a table was small must not scan it, or an index of it, for ever after.
PLANS = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
# A machine that is gone takes no leave: what its sessions have locked stays so until Postgres asks them, by itself
# after two hours. So it asks after 20 s of silence, and ends them after 50.
SILENCE = (
    "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; "
    "SET tcp_user_timeout = 50000"
)
SESSION = f"{PLANS}; {SILENCE}"
COMPARING = "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on"

CHANGE_ORDERS = """
UPDATE orders
SET version = after.version, status = after.status, amount_out = after.amount_out, updated_at = after.updated_at,
    latest = after.latest::integer[]
FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::text[], $5::numeric[], $6::timestamptz[], $7::text[])
     AS after (id, before, version, status, amount_out, updated_at, latest)
WHERE orders.id = after.id AND orders.version = after.before"""

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
  AND checkpoints.position = moved.expected
RETURNING checkpoints.generation"""

# Where the last leaf of the archive ends; null without any.
END_OF_LEAVES = r"""
SELECT max((regexp_match(pg_get_expr(leaf.relpartbound, leaf.oid), 'TO \(''(\d+)''\)'))[1]::bigint)
FROM pg_inherits JOIN pg_class AS leaf ON leaf.oid = inhrelid WHERE inhparent = 'events'::regclass"""

# Made first and attached then: that stops nobody who reads or writes. The second key must be each leaf's own, because
# it does not hold the column that parts them.
MAKE_LEAF = """
CREATE TABLE {leaf} (LIKE events INCLUDING ALL, UNIQUE (order_id, version)) WITH (toast_tuple_target = 8160);
ALTER TABLE events ATTACH PARTITION {leaf} FOR VALUES FROM ({begin}) TO ({end})"""

# Whether the user may do that: what is attached must be his, and what it is attached to as well.
LEAF_RIGHTS = """
SELECT current_user::text AS who, relnamespace::regnamespace::text AS schema, relowner::regrole::text AS owner,
       has_schema_privilege(relnamespace, 'CREATE') AS creates, pg_has_role(relowner, 'USAGE') AS owns
FROM pg_class WHERE oid = 'events'::regclass"""

ADOPT_EPOCH = "UPDATE checkpoints SET epoch = $1, updated_at = now() WHERE epoch <> $1"

# S608 below: what is put into a statement are the lists of columns in this file, nothing from outside.
_ORDER = "id, version, status, amount_out, updated_at, latest"
ORDERS = f"SELECT {_ORDER} FROM orders WHERE id = ANY($1::uuid[])"  # noqa: S608
BY_CLIENT_ID = f"""
SELECT {_ORDER} FROM orders WHERE user_id = $1 AND client_order_id = $2
ORDER BY id DESC LIMIT 1"""  # noqa: S608
# By both columns of `orders_of_user`, as one value: an equality on the first would let Postgres walk through all orders
# by their ids instead, and throw away those of others.
NEWEST_BEFORE = """
SELECT id, status, created_at, version, amount_out, updated_at
FROM orders WHERE (user_id, id) < ($1, $2) AND user_id >= $1
ORDER BY user_id DESC, id DESC LIMIT $3"""
NEWEST_ID = UUID(int=2**128 - 1)
QUIET_SINCE = """
SELECT id FROM orders WHERE status = ANY($1::text[]) AND updated_at < $2 ORDER BY updated_at, id LIMIT $3"""
USER_OF_EMAIL = "SELECT id FROM users WHERE email = lower($1)"
HISTORY = f"SELECT {_EVENTS} FROM events WHERE order_id = $1 ORDER BY version"  # noqa: S608
ARCHIVED = f"SELECT {_EVENTS} FROM events WHERE partition = $1 AND position > $2 ORDER BY position LIMIT $3"  # noqa: S608

# The events that rows of orders name; of each order and version there is one.
NAMED = """
SELECT order_id::text AS order_id, events.version, type, v, source, user_id, time, cause, traceparent, data
FROM unnest($1::uuid[], $2::integer[]) AS named (id, version)
JOIN events ON events.order_id = named.id AND events.version = named.version"""
KINDS_NAMED = """
SELECT order_id::text AS order_id, events.version, type, v
FROM unnest($1::uuid[], $2::integer[]) AS named (id, version)
JOIN events ON events.order_id = named.id AND events.version = named.version"""

UNFINISHED = f"SELECT {_ORDER} FROM orders WHERE id > $1 AND status <> ALL($2::text[]) ORDER BY id LIMIT $3"  # noqa: S608
ENTRIES_OF = f"SELECT {_EVENTS} FROM events WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, version"  # noqa: S608

# Rebuilding: shadow tables are tables of the same names in schemas of their own.

BEGIN_SHADOW = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE {schema}.orders (LIKE public.orders INCLUDING ALL EXCLUDING INDEXES)
  WITH (fillfactor = 75);
ALTER TABLE {schema}.orders ADD CONSTRAINT orders_pkey PRIMARY KEY (id);
COMMENT ON SCHEMA {schema} IS '{folded_by}';"""
FOLDED_BY = "SELECT obj_description(to_regnamespace($1), 'pg_namespace')"

INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = $1 AND tablename = 'orders' AND indexname <> 'orders_pkey'"""

# What is bound to the table itself, whatever its name becomes.
BOUND = """
SELECT 'view ' || ev_class::regclass AS name
FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid
WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = 'public.orders'::regclass
UNION SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid = 'public.orders'::regclass AND NOT tgisinternal
UNION SELECT 'publication ' || pubname
FROM pg_publication_rel JOIN pg_publication ON pg_publication.oid = prpubid WHERE prrelid = 'public.orders'::regclass
ORDER BY name"""

# As statements: what takes the place of the live table belongs to whom that does, and is open to whom that is.
RIGHTS = """
SELECT format('ALTER TABLE {schema}.orders OWNER TO %I', pg_get_userbyid(relowner)) AS statement
FROM pg_class WHERE oid = 'public.orders'::regclass
UNION ALL
SELECT format('GRANT %s ON {schema}.orders TO %s', privilege_type,
              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
              || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_class, aclexplode(relacl) WHERE oid = 'public.orders'::regclass"""

SHADOWS = """
SELECT table_schema AS schema, string_agg(column_name || ' ' || data_type, ', ' ORDER BY column_name) AS columns
FROM information_schema.columns WHERE table_name = 'orders' AND table_schema = ANY($1) GROUP BY table_schema"""

# By the text, so that whatever columns there are count. With `late` empty only orders that went on since
# the given positions, with NOT only those that did not.
DIFFERENCES = """
SELECT coalesce(live.id, shadow.id) AS id, row_to_json(live) AS live, row_to_json(shadow) AS shadow
FROM public.orders AS live FULL JOIN {schema}.orders AS shadow USING (id)
WHERE (live.id IS NULL OR shadow.id IS NULL OR live::text IS DISTINCT FROM shadow::text)
  AND {late} EXISTS (
    SELECT FROM public.events AS late JOIN unnest($1::smallint[], $2::bigint[]) AS since (partition, position)
      ON late.partition = since.partition AND late.position > since.position
    WHERE late.order_id = coalesce(live.id, shadow.id))
ORDER BY 1"""

# Of the bodies only those that say something a row shows.
TO_FOLD = """
SELECT partition, ms, position, order_id::text AS order_id, user_id, version, type, v, time,
       CASE WHEN type = ANY($4) THEN data END AS data
FROM events WHERE partition = $1 AND position > $2 ORDER BY position LIMIT $3"""

COUNT = "SELECT count(*) FROM {schema}.orders"

COPY_CHECKPOINTS = """
INSERT INTO checkpoints (projection, partition, epoch, ms, position, generation)
SELECT $2, partition, epoch, ms, position, generation FROM checkpoints WHERE projection = $1"""
DROP_CHECKPOINTS = "DELETE FROM checkpoints WHERE projection = $1"
NEXT_GENERATION = "UPDATE checkpoints SET generation = generation + 1 WHERE projection = $1"
