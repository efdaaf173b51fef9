#!/usr/bin/env bash
# Single POST /tasks from 64 connections against a fresh SQLite file with synchronous=FULL, the
# load generator on the same machine. Usage: bench/enqueue.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
command -v wrk >/dev/null || { echo "please install wrk" >&2; exit 1; }
binary=${CARGO_TARGET_DIR:-target}/release/nightshift
folder=$(mktemp -d)
address=127.0.0.1:$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

"$binary" serve --bind "$address" --database-url "sqlite://$folder/bench.db" 2>"$folder/log" &
service=$!
trap 'kill "$service" 2>/dev/null || true; wait "$service" 2>/dev/null || true; rm -rf "$folder"' EXIT
until python3 -c "import urllib.request; urllib.request.urlopen('http://$address/readyz')" 2>/dev/null; do
    kill -0 "$service" || { cat "$folder/log" >&2; exit 1; }
done
echo "idle memory: $(awk '/VmRSS/ {print $2, $3}' "/proc/$service/status")"
wrk -t1 -c64 -d"${seconds}s" --latency -s bench/enqueue.lua "http://$address/tasks"
echo "memory afterwards: $(awk '/VmRSS/ {print $2, $3}' "/proc/$service/status")"
