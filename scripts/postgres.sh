#!/usr/bin/env bash
# Runs a command with TEST_POSTGRES_URL naming a PostgreSQL server of its own, on a free loopback
# port and in a temporary folder, and stops the server afterwards.
# Usage: scripts/postgres.sh COMMAND [ARG...]
set -euo pipefail

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || { echo "no PostgreSQL server: apt-get install postgresql" >&2; exit 1; }
folder=$(mktemp -d)
chmod 711 "$folder"
as=()
if [ "$(id -u)" = 0 ]; then
    # The server refuses to run as root.
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups --)
    install -d -o postgres -m 700 "$folder/data" "$folder/socket"
else
    install -d -m 700 "$folder/data" "$folder/socket"
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

"${as[@]}" "$bin/initdb" -D "$folder/data" -U nightshift -A trust --no-sync --locale=C.UTF-8 \
    -E UTF8 >/dev/null
# No test here pulls the plug, so nothing has to reach the disk.
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -s -w -t 60 -l "$folder/data/log" -o \
    "-c listen_addresses=127.0.0.1 -p $port -k $folder/socket -c fsync=off \
     -c synchronous_commit=off -c full_page_writes=off -c max_connections=300" start
trap '"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -s -m immediate stop; rm -rf "$folder"' EXIT

TEST_POSTGRES_URL="postgres://nightshift@127.0.0.1:$port/postgres" "$@"
