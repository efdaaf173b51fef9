#!/usr/bin/env bash
# What 1,000 readers of events cost: how long POST /tasks takes at 500 tasks a second without them
# and with them (a tenth stands still, a tenth breaks off every two seconds and comes back), and
# the memory that the service takes at most. Fails if a reader does not see every event once.
# On SQLite and on PostgreSQL. Needs the release build. Usage: bench/events.sh [ARG...]
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/service.sh

ulimit -n 10000
peak() { awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$service/status"; }
watch() {
    local before
    before=$(peak)
    measure watch "$@" | sed "s/^/$engine /"
    echo "$engine memory at most, before and after: $before MiB, $(peak) MiB"
    stop
}

if [ -z "${TEST_POSTGRES_URL:-}" ]; then
    engine=sqlite
    start "sqlite://$folder/bench.db"
    watch "$@"
    DURABLE=1 scripts/postgres.sh "$0" "$@"
else
    engine=postgres
    start "$TEST_POSTGRES_URL"
    watch "$@"
fi
