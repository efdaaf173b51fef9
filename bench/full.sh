#!/usr/bin/env bash
# Whether 1,000,000 finished tasks and 200,000 waiting ones slow a drain down: workers that lease
# and finish 100 at once, before and after, on SQLite and on PostgreSQL, there once as it is and
# once without autovacuum, so that no table was ever analysed and nothing dead cleaned away.
# Prints the medians of several runs. Needs the release build. Usage: bench/full.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/service.sh
runs=${1:-5}

drains() { for _ in $(seq "$runs"); do measure drain --tasks 20000; done | medians "$1"; }

compare() { # ENGINE
    measure drain --tasks 20000 >"$folder/warm"
    drains "$1, empty"
    measure fill
    drains "$1, full"
    stop
}

case ${2:-} in
    '')
        start "sqlite://$folder/bench.db"
        compare sqlite
        DURABLE=1 scripts/postgres.sh "$0" "$runs" on
        DURABLE=1 scripts/postgres.sh "$0" "$runs" off
        ;;
    on)
        start "${TEST_POSTGRES_URL:?}"
        compare postgres
        ;;
    off)
        start "${TEST_POSTGRES_URL:?}"
        psql "$TEST_POSTGRES_URL" -q -c 'ALTER TABLE tasks SET (autovacuum_enabled = off)' \
            -c 'ALTER TABLE task_inputs SET (autovacuum_enabled = off)'
        compare "postgres, no vacuum"
        ;;
esac
