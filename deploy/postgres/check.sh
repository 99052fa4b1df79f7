#!/usr/bin/env bash
# Runs the guide's steps for Temporal on PostgreSQL: a database cluster of its own in a temporary folder, schema.sh twice,
# the server with temporal.yaml, and preemptctl against it. Needs PostgreSQL's programs (PG_BIN, or where Debian has
# them); as root it runs them as the user postgres. Ports are moved up by 10000, so that a Temporal that runs here stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
pg=${PG_BIN:-$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | tail -n 1)")}
work=$(mktemp -d)
server=
as=()
if [ "$(id -u)" = 0 ]; then
	chmod 755 "$work"
	install -d -o postgres "$work/db"
	as=(setpriv --reuid=postgres --regid=postgres --init-groups)
else
	mkdir "$work/db"
fi
cleanup() {
	if [ -n "$server" ]; then
		kill "$server" 2>/dev/null || true
		wait "$server" 2>/dev/null || true
	fi
	"${as[@]}" "$pg/pg_ctl" -D "$work/db/data" -m immediate stop >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap cleanup EXIT
fail() {
	echo "check.sh: $*" >&2
	exit 1
}

(cd deploy/postgres/tools && go build -o "$work/temporal-server" go.temporal.io/server/cmd/server &&
	go build -o "$work/temporal-sql-tool" go.temporal.io/server/cmd/tools/sql)
go build -o "$work/preemptctl" ./cmd/preemptctl

if command -v systemd-analyze >/dev/null; then
	sed "s|/opt/temporal|$work|" deploy/postgres/temporal.service >"$work/temporal.service"
	said=$(systemd-analyze verify --man=no "$work/temporal.service" 2>&1) || fail "temporal.service: $said"
	[ -z "$said" ] || fail "temporal.service: $said"
fi

export POSTGRES_PASSWORD='it'"'"'s"quoted":$1/+@%' # as odd as a password may be, but for spaces, which Temporal's own code does not take
port=$((20000 + RANDOM % 10000))
export POSTGRES_ADDRESS=127.0.0.1:$port
echo admin >"$work/admin"
chmod 644 "$work/admin"
"${as[@]}" "$pg/initdb" -D "$work/db/data" -A scram-sha-256 -U postgres --pwfile="$work/admin" >"$work/initdb.log" 2>&1 ||
	fail "initdb: $(tail -n 5 "$work/initdb.log")"
"${as[@]}" "$pg/pg_ctl" -D "$work/db/data" -w -l "$work/db/log" -o "-p $port -k $work/db -c listen_addresses=127.0.0.1" start >/dev/null
sql() { PGPASSWORD=admin psql -q -h 127.0.0.1 -p "$port" -U postgres -d postgres -v ON_ERROR_STOP=1 "$@"; }
sql -v "password=$POSTGRES_PASSWORD" <<<"create role temporal login password :'password'"
sql -c 'create database temporal owner temporal' -c 'create database temporal_visibility owner temporal'

export TEMPORAL_SQL_TOOL=$work/temporal-sql-tool
for _ in once twice; do deploy/postgres/schema.sh >"$work/schema.log" 2>&1 || fail "schema.sh: $(tail -n 20 "$work/schema.log")"; done

sed -E 's/\b(72[0-9]{2}|69[0-9]{2}|8000)\b/1\1/' deploy/postgres/temporal.yaml >"$work/temporal.yaml"
"$work/temporal-server" --config-file "$work/temporal.yaml" --allow-no-auth start >"$work/server.log" 2>&1 &
server=$!
export TEMPORAL_ADDRESS=127.0.0.1:17233
for _ in $(seq 120); do
	kill -0 "$server" 2>/dev/null || fail "the server ended: $(tail -n 20 "$work/server.log")"
	# It answers once it can tell that there is no such namespace yet.
	said=$("$work/preemptctl" -s "$TEMPORAL_ADDRESS" workflow list 2>&1 || true)
	case $said in *amespace*) break ;; esac
	sleep 1
done
case $said in *amespace*"not found"* | *"no namespace"* | *amespace*"does not exist"*) ;; *) fail "preemptctl says: $said; the server: $(tail -n 20 "$work/server.log")" ;; esac
commands=$("$work/preemptctl" --help)
if grep -qE '^ +setup ' <<<"$commands"; then
	"$work/preemptctl" -s "$TEMPORAL_ADDRESS" setup
	"$work/preemptctl" -s "$TEMPORAL_ADDRESS" workflow list
fi
echo "Temporal runs on PostgreSQL as the guide says"
