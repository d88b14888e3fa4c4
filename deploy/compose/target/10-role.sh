#!/bin/sh
# The role that the gateway logs in as, with the password that setup made.
set -eu
psql -v ON_ERROR_STOP=1 -U postgres -d orders -v password="$(cat /secrets/gateway.password)" <<'SQL'
CREATE ROLE gateway LOGIN PASSWORD :'password';
SQL
