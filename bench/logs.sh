#!/usr/bin/env bash
# Whether a flood of log lines keeps others from the writer: how long POST /tasks takes alone, and
# beside ten attempts that each send 4,000 lines of 8 KiB as fast as the service takes them. On
# SQLite and on PostgreSQL. Needs the release build. Usage: bench/logs.sh [ARG...]
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/service.sh

if [ -z "${TEST_POSTGRES_URL:-}" ]; then
    start "sqlite://$folder/bench.db"
    measure logs "$@" | sed 's/^/sqlite /'
    stop
    DURABLE=1 scripts/postgres.sh "$0" "$@"
else
    start "$TEST_POSTGRES_URL"
    measure logs "$@" | sed 's/^/postgres /'
    stop
fi
