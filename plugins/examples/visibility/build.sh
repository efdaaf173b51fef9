#!/usr/bin/env bash
# Builds the component: build.sh OUT writes OUT/visibility.wasm. Needs Rust with the target
# wasm32-wasip2; where rustup has none, Debian's packages rustc-web, rust-web-src and wasi-libc.
# Everything else is written to OUT/build-visibility, so that the sources stay clean.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"

target=wasm32-wasip2
build=(cargo build --release --locked --target "$target")
export CARGO_TARGET_DIR="$out/build-visibility"

# Debian's compiler comes with the source of its standard library, to be built for the target too,
# and without a linker: rustup's toolchain has that.
use_debian() {
    local tools
    tools="$(rustc --print sysroot)/lib/rustlib/$(rustc --print host-tuple)/bin"
    RUSTC=$(dpkg -L rustc-web | grep '/bin/rustc$')
    RUSTFLAGS="-C link-self-contained=no -L $(dirname "$(dpkg -L wasi-libc | grep '/libc.a$')")"
    PATH="$tools/gcc-ld:$PATH"
    export RUSTC RUSTFLAGS PATH RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_WASM32_WASIP2_LINKER="$tools/wasm-component-ld"
    build+=("-Zbuild-std=std,panic_abort")
}

if [[ -d "$(rustc --print target-libdir --target "$target")" ]]; then
    :
elif dpkg -s rustc-web rust-web-src wasi-libc >/dev/null 2>&1; then
    use_debian
else
    echo "build.sh: Rust cannot build for $target here: rustup target add $target" >&2
    exit 1
fi
"${build[@]}"
cp "$CARGO_TARGET_DIR/$target/release/visibility.wasm" "$out/"
