-- The archive is parted by position (docs/adr/0020): what grows is its last leaf, and the oldest may be let go. What is
-- there becomes the first leaf, as long as it has to be. `data` and `state` are text now: nothing in Postgres looks into
-- them, and checking that they are JSON, and compressing what is over 2 kB, was a third of what a row costs.
-- Rewrites the archive and the orders once, about ten seconds per million rows; nobody reads or writes meanwhile.
LOCK TABLE checkpoints, events, orders;

ALTER TABLE events RENAME TO events_0;
ALTER INDEX events_pkey RENAME TO events_0_pkey;
ALTER TABLE events_0 ALTER COLUMN data TYPE text, ALTER COLUMN extra TYPE text;
ALTER TABLE events_0 SET (toast_tuple_target = 8160);

CREATE TABLE events (LIKE events_0, PRIMARY KEY (partition, position)) PARTITION BY RANGE (position);
DO $$
DECLARE
    leaf CONSTANT bigint := 4194304;
    last bigint;
BEGIN
    SELECT coalesce(max(position), 0) INTO last FROM events_0;
    EXECUTE format('ALTER TABLE events ATTACH PARTITION events_0 FOR VALUES FROM (0) TO (%s)', (last / leaf + 1) * leaf);
END $$;

-- Rows of 2.4 kB: three quarters of a page hold two, and what is left one more of them, for the rewrite.
ALTER TABLE orders ALTER COLUMN state TYPE text;
ALTER TABLE orders SET (toast_tuple_target = 8160, fillfactor = 75);

-- One direction for both columns, so that a page can begin at a place in the index (NEWEST_BEFORE in libs/orders/sql.py).
DROP INDEX orders_of_user;
CREATE INDEX orders_of_user ON orders (user_id, id);
