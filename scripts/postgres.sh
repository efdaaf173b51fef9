#!/usr/bin/env bash
# Runs a command with TEST_POSTGRES_URL naming a PostgreSQL server of its own, on a free loopback
# port and in a temporary folder, and stops the server afterwards. TEST_PGBOUNCER_URL names a
# PgBouncer before it that pools transactions. The server takes TLS with a certificate of its own,
# TEST_POSTGRES_CERT. With DURABLE=1 what is committed is on the disk. POSTGRES_BIN names the folder
# of another server's programs.
# Usage: scripts/postgres.sh COMMAND [ARG...]
set -euo pipefail

newest=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1) ||
    newest=
bin=${POSTGRES_BIN:-$newest}
[ -n "$bin" ] || { echo "no PostgreSQL server: apt-get install postgresql" >&2; exit 1; }
# In memory where there is room: the tests make a database each, and each has 300 files.
memory=/dev/shm
if [ -z "${DURABLE:-}" ] && [ -w "$memory" ] &&
    [ "$(df --output=avail -k "$memory" | tail -n 1)" -ge $((4 << 20)) ]; then
    folder=$(mktemp -d -p "$memory")
else
    folder=$(mktemp -d)
fi
chmod 711 "$folder"
as=()
if [ "$(id -u)" = 0 ]; then
    # The server refuses to run as root.
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups --)
    install -d -o postgres -m 700 "$folder/data" "$folder/socket"
else
    install -d -m 700 "$folder/data" "$folder/socket"
fi
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
port=$(free_port)
pooled_port=$(free_port)

"${as[@]}" "$bin/initdb" -D "$folder/data" -U nightshift -A trust --no-sync --locale=C.UTF-8 \
    -E UTF8 >/dev/null
openssl req -new -x509 -days 2 -nodes -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
    -out "$folder/cert.pem" -keyout "$folder/key.pem" 2>/dev/null
if [ "$(id -u)" = 0 ]; then chown postgres "$folder/key.pem"; fi
chmod 600 "$folder/key.pem"
chmod 644 "$folder/cert.pem"
# No test here pulls the plug, so nothing has to reach the disk.
[ -n "${DURABLE:-}" ] || fast="-c fsync=off -c synchronous_commit=off -c full_page_writes=off"
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -s -w -t 60 -l "$folder/data/log" -o \
    "-c listen_addresses=127.0.0.1 -p $port -k $folder/socket -c max_connections=300 \
     -c ssl=on -c ssl_cert_file=$folder/cert.pem -c ssl_key_file=$folder/key.pem \
     ${fast:-}" start
pooler=
stop() {
    [ -z "$pooler" ] || kill "$pooler"
    "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -s -m immediate stop
    rm -rf "$folder"
}
trap stop EXIT

# A test has three processes or so, each with a few connections.
cat >"$folder/pgbouncer.ini" <<END
[databases]
* = host=127.0.0.1 port=$port user=nightshift
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $pooled_port
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
log_connections = 0
log_disconnections = 0
END
chmod 644 "$folder/pgbouncer.ini"
"${as[@]}" "$(command -v pgbouncer || echo /usr/sbin/pgbouncer)" -q "$folder/pgbouncer.ini" \
    2>"$folder/pgbouncer.log" &
pooler=$!

TEST_POSTGRES_URL="postgres://nightshift@127.0.0.1:$port/postgres" \
    TEST_POSTGRES_CERT="$folder/cert.pem" \
    TEST_PGBOUNCER_URL="postgres://nightshift@127.0.0.1:$pooled_port" "$@"
