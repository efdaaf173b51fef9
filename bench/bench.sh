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
    # Three replicas: enqueued at one, leased at the second, waited for at the third.
    servers=() services=()
    for _ in 1 2 3; do
        start "$TEST_POSTGRES_URL"
        servers+=("$server") services+=("$service")
    done
    for _ in $(seq "$runs"); do
        server=${servers[0]} measure replicas --worker-server "${servers[1]}" \
            --wait-server "${servers[2]}"
    done | medians "postgres, 3 replicas"
    for service in "${services[@]}"; do stop; done
else
    start "sqlite://$folder/bench.db"
    all sqlite
    DURABLE=1 scripts/postgres.sh "$0" "$runs" postgres
fi
