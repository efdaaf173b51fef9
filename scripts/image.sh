#!/usr/bin/env bash
# Builds the Dockerfile with buildah, in a store of its own and without an engine, runs what it made
# and has tasks done by it. Started by `make image`, which sets TOOLS. With BINARY=FILE the first
# stage is left out, and the image has that binary. Needs root.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
packages=()
command -v buildah >/dev/null || packages+=(buildah)
command -v debootstrap >/dev/null || packages+=(debootstrap)
command -v python3 >/dev/null || packages+=(python3)
"$here/apt.sh" ${packages[@]+"${packages[@]}"}

store=$TOOLS/image
mkdir -p "$store"
cat >"$store/storage.conf" <<END
[storage]
driver = "vfs"
runroot = "$store/run"
graphroot = "$store/graph"
END
export CONTAINERS_STORAGE_CONF=$store/storage.conf

folder=$(mktemp -d)
chmod 755 "$folder"
started=() containers=()
stop() {
    [ ${#started[@]} = 0 ] || kill "${started[@]}" 2>/dev/null || true
    wait
    [ ${#containers[@]} = 0 ] || buildah rm "${containers[@]}" >/dev/null
    rm -rf "$folder"
}
trap stop EXIT

# The bases that the Dockerfile names, made of Debian's own packages where no registry is reached.
have() { buildah inspect --type image "$1" >/dev/null 2>&1; }
if ! have debian:bookworm-slim; then
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
    debootstrap --variant=minbase --include=ca-certificates bookworm "$folder/debian" \
        ${mirror:+"$mirror"} >"$store/debootstrap.log" \
        || { tail "$store/debootstrap.log" >&2; exit 1; }
    rm -rf "$folder"/debian/var/cache/apt/archives/*.deb "$folder"/debian/var/lib/apt/lists/*
    container=$(buildah from scratch)
    containers+=("$container")
    buildah add -q "$container" "$folder/debian" / >/dev/null
    buildah config --cmd /bin/bash \
        --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah commit -q "$container" debian:bookworm-slim >/dev/null
fi

options=(--isolation chroot --network host --pull-never --format docker)
if [ -n "${BINARY:-}" ]; then
    install -D "$BINARY" "$folder/build/out/nightshift"
    options+=(--build-context "build=$folder/build")
else
    # The first stage gets this machine's compiler and crates, since it may reach no registry.
    cargo fetch --locked
    options+=(-v "$(rustc --print sysroot):/usr/local/rust:ro"
        -v "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo-lent/registry")
fi
if [ -z "${BINARY:-}" ] && ! have rust:1.95-slim-bookworm; then
    container=$(buildah from --pull-never debian:bookworm-slim)
    containers+=("$container")
    buildah run --isolation chroot --network host "$container" -- sh -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev' \
        >"$store/rust.log" 2>&1 || { tail "$store/rust.log" >&2; exit 1; }
    buildah config --env CARGO_HOME=/usr/local/cargo-lent --env CARGO_NET_OFFLINE=true \
        --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "$container"
    buildah commit -q "$container" rust:1.95-slim-bookworm >/dev/null
fi
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
buildah bud "${options[@]}" --build-arg "REVISION=$revision" -t nightshift . >"$store/build.log" 2>&1 \
    || { tail -n 30 "$store/build.log" >&2; exit 1; }

container=$(buildah from --pull-never nightshift)
containers+=("$container")
files=$(buildah mount "$container")
echo "the image has $(du -sb "$files" | cut -f 1) bytes, $(stat -c %s "$files/usr/local/bin/nightshift") of them the binary"
[ ! -e "$files/bin/sh" ] || { echo "there is a shell in the image" >&2; exit 1; }

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
NIGHTSHIFT_SECRET=whsec_$(head -c 24 /dev/urandom | base64)
export NIGHTSHIFT_SECRET
exec {out}< <(exec python3 examples/executors/python/demo.py)
started+=($!)
read -r executor <&"$out"
port=$(free_port)
install -d -o 10001 -g 10001 -m 750 "$folder/data"

# What the image is told to run, as the user that it names, with a volume for what is kept.
inside() {
    buildah run --isolation chroot --network host --volume "$folder/data:/data" \
        --env "NIGHTSHIFT_BIND=127.0.0.1:$port" --env "NIGHTSHIFT_SERVER=http://127.0.0.1:$port" \
        "$container" -- "$@"
}
image() { buildah inspect --type image --format "{{range $1}}{{.}} {{end}}" nightshift; }
read -ra command <<<"$(image .Docker.Config.Entrypoint)$(image .Docker.Config.Cmd)"
read -ra check <<<"$(image .Docker.Config.Healthcheck.Test)"
check=("${check[@]:1}") # after CMD
echo "runs: ${command[*]}; its health: ${check[*]}"

. "$here/expect.sh"

# The service's own process, among those of buildah.
process_of() {
    local folder
    for folder in /proc/[0-9]*; do
        if [[ $(readlink "$folder/exe") = */nightshift ]] \
            && grep -qz "^NIGHTSHIFT_BIND=127.0.0.1:$1$" "$folder/environ"; then
            basename "$folder"
        fi
    done 2>/dev/null
}

expect "the health check says no while nothing runs" 1 "is not ready" inside "${check[@]}"
expect "the image's own address is refused without a token" 2 "there is no token" \
    buildah run --isolation chroot --network host "$container" -- "${command[@]}"
exec {log}< <(inside "${command[@]}" --log-format json 2>&1)
service=$!
line=
while [[ $line != *"nightshift is ready"* ]]; do
    read -r line <&"$log" || { echo "the service did not start: $line"; exit 1; }
done
cat <&"$log" >"$folder/service.log" &
expect "the health check says yes" 0 "is ready" inside "${check[@]}"
pid=$(process_of "$port")
started+=("$pid")
[ "$(stat -c %u "/proc/$pid")" = 10001 ] || { echo "the service does not run as user 10001"; exit 1; }
echo "ok       it runs as user 10001"

inside nightshift executor put demo --task-path 'demo.tasks.*' --secret "$NIGHTSHIFT_SECRET" \
    --url "http://127.0.0.1:$executor" --max-attempts 1 >/dev/null
expect "a task succeeds" 0 6366805760909027985741435139224001 \
    inside nightshift enqueue demo.tasks.super_complicated_task 7 --kwarg y=40 --wait
expect "a task that reports later succeeds" 0 60001.5 \
    inside nightshift enqueue demo.tasks.forced_photometry "SN 2026abc" --wait
expect "a task fails" 1 "no such image" \
    inside nightshift enqueue demo.tasks.reduce_broken_image m31.fits --wait
expect "the data are in the volume" 0 nightshift.db ls "$folder/data"
kill "$pid"
wait "$service" || { echo "the service ended with status $?"; cat "$folder/service.log"; exit 1; }
echo "ok       SIGTERM ends it with status 0"
