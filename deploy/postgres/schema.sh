#!/usr/bin/env bash
# Makes, or brings up to date, Temporal's two databases on PostgreSQL. It may be run again, as after an update of
# Temporal, and before its server starts. The role must be there and may create databases, or the databases are there
# and are its own:
#   sudo -u postgres createuser --pwprompt temporal
#   sudo -u postgres createdb --owner temporal temporal
#   sudo -u postgres createdb --owner temporal temporal_visibility
#   POSTGRES_PASSWORD=... deploy/postgres/schema.sh
# TEMPORAL_SQL_TOOL names temporal-sql-tool (default: in /opt/temporal), POSTGRES_ADDRESS the database's host:port.
set -euo pipefail
tool=${TEMPORAL_SQL_TOOL:-/opt/temporal/temporal-sql-tool}
address=${POSTGRES_ADDRESS:-127.0.0.1:5432}
export SQL_PLUGIN=postgres12 SQL_HOST=${address%:*} SQL_PORT=${address##*:} SQL_USER=${POSTGRES_USER:-temporal}
export SQL_PASSWORD=${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD to the password of $SQL_USER}
export PGPASSWORD=$SQL_PASSWORD

for part in temporal visibility; do
	export SQL_DATABASE=temporal
	[ "$part" = temporal ] || SQL_DATABASE=temporal_visibility
	versioned=$(psql -h "$SQL_HOST" -p "$SQL_PORT" -U "$SQL_USER" -d "$SQL_DATABASE" -Atc "select to_regclass('schema_version') is not null")
	if [ "$versioned" != t ]; then
		"$tool" setup-schema --version 0.0
	fi
	"$tool" update-schema --schema-name "postgresql/v12/$part"
done
