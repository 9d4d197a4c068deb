-- Look-up by the client's own id, for orders the log does not hold any more. Only orders that have one are in the index.
CREATE INDEX orders_client_id ON orders (user_id, ((state -> 'terms') ->> 'client_order_id'))
WHERE (state -> 'terms') ->> 'client_order_id' IS NOT NULL;
