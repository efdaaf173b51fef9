#!/usr/bin/env bash
# Checks what examples/executors has in each language, and the Django package's view: executors with
# `nightshift executor check`, workers with a real service. Started by `make test-executor`, which
# sets TOOLS and NIGHTSHIFT (the binary).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
examples=$here/../examples/executors
export PATH=$PATH:/usr/local/go/bin PYTHONDONTWRITEBYTECODE=1
packages=()
command -v python3 >/dev/null || packages+=(python3)
command -v node >/dev/null || packages+=(nodejs)
command -v go >/dev/null || packages+=(golang-go)
"$here/apt.sh" ${packages[@]+"${packages[@]}"}
django=$("$here/python.sh" "$here/../django/requirements/django52.txt")

folder=$(mktemp -d)
started=()
stop() {
    [ ${#started[@]} = 0 ] || kill "${started[@]}" 2>/dev/null || true
    rm -rf "$folder"
}
trap stop EXIT
NIGHTSHIFT_SECRET=whsec_$(head -c 24 /dev/urandom | base64)
export NIGHTSHIFT_SECRET

for kit in executor worker; do
    gofmt -l "$examples/go/$kit" | (! grep .)
    go vet "$examples/go/$kit"/*.go
    go build -o "$folder/go-$kit" "$examples/go/$kit"/*.go
done

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# check NAME "OPTION..." COMMAND...: the command prints its port, and serves until it is stopped.
check() {
    local name=$1 options=$2 port status=0 out pid
    shift 2
    exec {out}< <(exec "$@" 2>"$folder/$name.log")
    pid=$!
    read -r port <&"$out" || { cat "$folder/$name.log"; return 1; }
    # shellcheck disable=SC2086 # several options
    "$NIGHTSHIFT" executor check "http://127.0.0.1:$port/${path:-}" \
        --echoes-task-id $options || status=$?
    kill "$pid"
    [ $status = 0 ] || cat "$folder/$name.log"
    return $status
}

check_django() {
    local port tasks=site_app.tasks
    port=$(free_port)
    export NIGHTSHIFT_SERVER=http://127.0.0.1:$port PYTHONPATH=$here/../django
    cd "$here/../django/tests"
    path=nightshift/ check django "--listen 127.0.0.1:$port --echo $tasks.echo --null $tasks.noop \
        --fail $tasks.fail_with --slow $tasks.work" "$django/bin/python" push_site.py
}

# Side by side, since they mostly wait.
declare -A jobs
check python --strict python3 "$examples/python/check.py" >"$folder/python" 2>&1 & jobs[python]=$!
check node --strict node "$examples/node/check.mjs" >"$folder/node" 2>&1 & jobs[node]=$!
check go --strict "$folder/go-executor" >"$folder/go" 2>&1 & jobs[go]=$!
check_django >"$folder/django" 2>&1 & jobs[django]=$!
failed=0
for name in python node go django; do
    status=0
    wait "${jobs[$name]}" || status=$?
    printf '\n== %s\n' "$name"
    cat "$folder/$name"
    [ $status = 0 ] || failed=1
done
[ $failed = 0 ] || exit 1

port=$(free_port)
export NIGHTSHIFT_SERVER=http://127.0.0.1:$port
exec {log}< <(exec "$NIGHTSHIFT" serve --bind "127.0.0.1:$port" --log-format json \
    --database-url "sqlite://$folder/service.db" 2>&1)
started+=($!)
while [[ ${line:-} != *"nightshift is ready"* ]]; do
    read -r line <&"$log" || { echo "the service did not start: ${line:-}"; exit 1; }
done
cat <&"$log" >"$folder/service.log" &
# A service without tokens does not look at the header of one, so that a worker could send nonsense.
tap=$(free_port)
python3 "$here/tap.py" "$tap" "$port" "$folder/said" &
started+=($!)

. "$here/expect.sh"

enqueue() {
    "$NIGHTSHIFT" enqueue --max-attempts 1 "$@" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'
}

# start_worker NAME COMMAND...
start_worker() {
    name=$1
    shift
    "$NIGHTSHIFT" executor put "$name" --task-path 'check.*' --lease-seconds 5 >/dev/null
    "$@" "$name" "http://127.0.0.1:$tap" & pid=$!
    started+=("$pid")
}

stop_worker() {
    kill "$pid"
    wait "$pid" || true
    "$NIGHTSHIFT" executor delete "$name"
}

# try_worker NAME COMMAND...
try_worker() {
    local name id pid
    printf '\n== %s worker\n' "$1"
    start_worker "$@"
    id=$(enqueue check.echo --args '["m31.fits", 1.5]' --kwarg a=null)
    expect "works, and returns the value" 0 '[["m31.fits",1.5],{"a":null}]' result_of "$id"
    id=$(enqueue check.fail "no such image")
    expect "fails as its task does" 1 "no such image" "$NIGHTSHIFT" result "$id" --wait 20
    id=$(enqueue check.slow 6)
    expect "keeps its lease by heartbeats" 0 6 "$NIGHTSHIFT" result "$id" --wait 20
    id=$(enqueue check.slow 60)
    expect "is at work" 3 "" "$NIGHTSHIFT" result "$id" --wait 1
    "$NIGHTSHIFT" cancel "$id" >/dev/null
    # The service would give it up after ten seconds.
    expect "stops when its task is cancelled" 1 CANCELLED "$NIGHTSHIFT" get "$id" --wait 8
    stop_worker
}

# try_token NAME COMMAND...
try_token() {
    local name id pid
    start_worker "$@"
    id=$(enqueue check.echo m31.fits)
    expect "the $name worker shows it" 0 '[["m31.fits"],{}]' result_of "$id"
    stop_worker
}

# Without the white space that some languages write.
result_of() {
    "$NIGHTSHIFT" result "$1" --wait 20 | tr -d ' \n'
}

try_worker python python3 "$examples/python/worker.py"
try_worker node node "$examples/node/worker.mjs"
try_worker go "$folder/go-worker"
grep --text --quiet 'POST /leases/' "$folder/said"
if grep --text --ignore-case '^authorization:' "$folder/said"; then
    echo "a worker sends a header for a token that it does not have" >&2
    exit 1
fi

printf '\n== with a token\n'
# From the first one on the service asks for it.
NIGHTSHIFT_TOKEN=$("$NIGHTSHIFT" token create kits --scope admin)
export NIGHTSHIFT_TOKEN
try_token python python3 "$examples/python/worker.py"
try_token node node "$examples/node/worker.mjs"
try_token go "$folder/go-worker"
