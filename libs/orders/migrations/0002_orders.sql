-- The archive: every entry of the log, so that it can be given back byte for byte. Rows are never updated.
CREATE TABLE events (
    partition   smallint NOT NULL,
    position    bigint NOT NULL,
    version     integer NOT NULL,
    ms          bigint NOT NULL,
    time        timestamptz NOT NULL,
    order_id    uuid NOT NULL,
    v           smallint NOT NULL,
    epoch       text NOT NULL,
    type        text NOT NULL,
    source      text NOT NULL,
    user_id     text NOT NULL,
    cause       text NOT NULL,
    traceparent text NOT NULL,
    data        json NOT NULL, -- not jsonb: the text must stay as it is
    extra       json,          -- fields of the entry that the columns cannot give back exactly; nearly always null
    PRIMARY KEY (partition, position),
    UNIQUE (order_id, version)
);

-- Orders as they are: the fold of the archive up to the checkpoint.
-- An order is rewritten a handful of times in its first seconds. No index holds a column that changes, and half of each
-- page is left free, so these rewrites stay on their page and touch no index (HOT).
CREATE TABLE orders (
    id         uuid PRIMARY KEY,
    user_id    text NOT NULL,
    version    integer NOT NULL,
    status     text NOT NULL,
    token_in   text NOT NULL,
    token_out  text NOT NULL,
    amount_in  numeric(20, 0) NOT NULL,
    amount_out numeric(20, 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    state      json NOT NULL
) WITH (fillfactor = 50);

-- A user's list, newest first: ids are UUIDv7, so (user_id, id) alone serves `WHERE user_id = $1 AND id < $2 ORDER BY id
-- DESC LIMIT n` and reads n entries, however deep the page.
CREATE INDEX orders_of_user ON orders (user_id, id DESC);

-- How far each projection is; moved in the transaction that writes its rows.
CREATE TABLE checkpoints (
    projection text NOT NULL,
    partition  smallint NOT NULL,
    epoch      text NOT NULL,
    ms         bigint NOT NULL,
    position   bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, partition)
) WITH (fillfactor = 10);
