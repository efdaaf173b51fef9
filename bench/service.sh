# shellcheck shell=bash
# Sourced by the benchmarks: a service of its own, and load on it.
target=${CARGO_TARGET_DIR:-target}/release
folder=$(mktemp -d)
service=
stop() {
    [ -z "$service" ] || { kill "$service" 2>/dev/null; wait "$service" || true; }
    service=
}
trap 'stop; rm -rf "$folder"' EXIT

start() { # DATABASE_URL
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    server=http://127.0.0.1:$port
    "$target/nightshift" serve --bind "127.0.0.1:$port" --database-url "$1" 2>"$folder/log" &
    service=$!
    until grep -q "nightshift is ready" "$folder/log"; do
        kill -0 "$service" || { cat "$folder/log" >&2; exit 1; }
    done
}

measure() { "$target/nightshift-bench" --server "$server" "$@"; }

# Lines of "NAME VALUE UNIT" to a median for each name.
medians() { # LABEL
    sort -k1,1 -k2,2g | awk -v label="$1" '
        function flush() { if (count) printf "%-24s %-12s %10s %s\n", label, name, values[int((count + 1) / 2)], unit }
        $1 != name { flush(); name = $1; count = 0 }
        { values[++count] = $2; unit = $3 }
        END { flush() }'
}
