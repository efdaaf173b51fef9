#!/usr/bin/env bash
# Sends what the OpenAPI document allows and forbids to a real service on each engine, and fails
# where an answer is not as the document says. Started by `make fuzz` and `fuzz-short`, which set
# TOOLS, NIGHTSHIFT (the binary) and a PostgreSQL of their own.
# Usage: fuzz-api.sh SECONDS EXAMPLES SEED
set -euo pipefail

seconds=$1 examples=$2 seed=$3
here=$(cd "$(dirname "$0")" && pwd)
fuzz=$(realpath "$here/../openapi/fuzz")
command -v curl >/dev/null || "$here/apt.sh" curl
python=$("$here/python.sh" "$fuzz/requirements.txt")
folder=$(mktemp -d)
# Without one, the first token that is made would keep everybody out.
token=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
service=
stop() {
    status=$?
    if [ -n "$service" ] && kill "$service"; then wait "$service" || true; fi
    [ "$status" = 0 ] || tail -n 50 "$folder"/*.log
    rm -rf "$folder"
    exit "$status"
}
trap stop EXIT

run() {
    local name=$1 url=$2 port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    NIGHTSHIFT_ADMIN_TOKEN=$token "$NIGHTSHIFT" serve --bind "127.0.0.1:$port" --database-url "$url" \
        >"$folder/$name.log" 2>&1 &
    service=$!
    curl --silent --fail --output /dev/null --retry 100 --retry-delay 1 --retry-connrefused \
        "http://127.0.0.1:$port/readyz"
    echo "== $name, seed $seed"
    # Streams of events have no end that could be waited for: service/tests/it/events.rs has them.
    # The hooks are found by their folder's name, and what is kept of a run lands in this one.
    (cd "$folder" && SCHEMATHESIS_HOOKS=hooks PYTHONPATH=$fuzz PYTHONDONTWRITEBYTECODE=1 \
        "$python/bin/st" --config-file "$fuzz/schemathesis.toml" run \
        "http://127.0.0.1:$port/openapi.json" --url "http://127.0.0.1:$port" --checks all --seed "$seed" \
        --header "Authorization: Bearer $token" \
        --exclude-operation-id get_events --exclude-operation-id get_task_events \
        --max-examples "$examples" --max-time "$seconds" --request-timeout 10 \
        --generation-database none)
    # What went wrong inside is said here, and nowhere else.
    if grep -E 'ERROR|panicked' "$folder/$name.log"; then exit 1; fi
    kill "$service"
    wait "$service"
    service=
}

run SQLite "sqlite://$folder/nightshift.db"
run PostgreSQL "$TEST_POSTGRES_URL"
