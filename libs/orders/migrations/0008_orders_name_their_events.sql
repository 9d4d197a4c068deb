-- An order's row names the events it folds from, the last of each type and schema version, instead of repeating what they
-- say (docs/adr/0023). Looks every order up in the archive and rewrites the orders once, a minute or two per million;
-- nobody reads or writes meanwhile. The release before can neither read nor write them afterwards.
LOCK TABLE checkpoints, events, orders;

ALTER TABLE orders ADD COLUMN latest integer[] NOT NULL DEFAULT '{}';
UPDATE orders SET latest = named.versions
FROM (
    SELECT order_id, array_agg(version ORDER BY version) AS versions
    FROM (SELECT order_id, max(version) AS version FROM events GROUP BY order_id, type, v) AS last
    GROUP BY order_id
) AS named
WHERE orders.id = named.order_id;
ALTER TABLE orders ALTER COLUMN latest DROP DEFAULT, DROP COLUMN state;

-- The rows are small now and stay where they are when they change; what the old ones took is given back.
ALTER TABLE orders RESET (toast_tuple_target);
CLUSTER orders USING orders_pkey;
ALTER TABLE orders SET WITHOUT CLUSTER;
