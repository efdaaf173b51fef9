#!/usr/bin/env bash
# What one service takes, on a fresh SQLite file and on a PostgreSQL of its own, both durable, the
# load on the same machine. Prints the medians of several runs. Needs the release build.
# Usage: bench/bench.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/service.sh
runs=${1:-5}

all() { # ENGINE
    for _ in $(seq "$runs"); do
        measure enqueue
        measure batch
        measure drain
        measure push
        measure latency
    done | medians "$1"
    stop
}

if [ "${2:-}" = postgres ]; then
    start "${TEST_POSTGRES_URL:?}"
    all postgres
else
    start "sqlite://$folder/bench.db"
    all sqlite
    DURABLE=1 scripts/postgres.sh "$0" "$runs" postgres
fi
