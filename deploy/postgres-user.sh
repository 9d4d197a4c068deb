#!/bin/sh
# Run by the image of Postgres once, when it makes its files. The services' user owns its database and nothing else; the
# superuser has no password afterwards, so that it is there for who is in the container, and for nobody over the network.
set -eu
psql -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d "$POSTGRES_DB" -v password="$POSTGRES_PASSWORD" <<'SQL'
CREATE ROLE swaplog LOGIN PASSWORD :'password';
ALTER DATABASE swaplog OWNER TO swaplog;
ALTER ROLE postgres PASSWORD NULL;
SQL
