-- As a column: an index that reads `state` fails for texts that JSON allows and Postgres does not (\u0000), and with it the
-- projection of everybody.
ALTER TABLE orders ADD COLUMN client_order_id text;
UPDATE orders SET client_order_id = (state -> 'terms') ->> 'client_order_id'
WHERE (state -> 'terms') ->> 'client_order_id' IS NOT NULL;
DROP INDEX orders_client_id;
CREATE INDEX orders_client_id ON orders (user_id, client_order_id) WHERE client_order_id IS NOT NULL;
