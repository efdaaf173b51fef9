#!/usr/bin/env bash
# Builds both components: build.sh OUT writes OUT/source-extraction-c.wasm and -python.wasm.
# README.md says what has to be installed. Everything else is written to
# OUT/build-source-extraction, so that the sources stay clean.
set -euo pipefail
out=$(mkdir -p "${1:?usage: build.sh OUT}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD
wit=$here/../../wit
build=$out/build-source-extraction

need() {
    command -v "$1" >/dev/null || { echo "build.sh: no $1. To get it: $2" >&2; exit 1; }
}

build_c() {
    rm -rf "$build/c" && mkdir -p "$build/c" && cd "$build/c"
    wit-bindgen c --world plugin "$wit" >&2
    python3 -m pip download --quiet --no-deps --require-hashes --no-binary sep,yyjson \
        -r "$here/c/packages.txt"
    for package in *.tar.gz; do tar -xzf "$package"; done
    local sep=(sep-*/src) yyjson=(yyjson-*/yyjson)
    local linker=("$(rustc --print sysroot)"/lib/rustlib/*/bin/wasm-component-ld)
    local cc=(clang-19 --target=wasm32-wasi -O2 -I. -isystem "${sep[0]}" -isystem "${yyjson[0]}")
    # What others have written is not for us to be warned about.
    "${cc[@]}" -w -c "${sep[0]}"/*.c "${yyjson[0]}/yyjson.c" plugin.c
    "${cc[@]}" -Wall -Wextra -Werror -mexec-model=reactor -fuse-ld="${linker[0]}" \
        "$here"/c/*.c ./*.o -Wl,--gc-sections,-s -o "$out/source-extraction-c.wasm"
}

build_python() {
    # A copy, since what Python compiles it leaves beside the sources.
    rm -rf "$build/python" && mkdir -p "$build/python" && cd "$build/python"
    cp "$here"/python/*.py .
    componentize-py -d "$wit" -w plugin componentize plugin -p . \
        -o "$out/source-extraction-python.wasm" >&2
}

llvm="apt-get install clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32"
need clang-19 "$llvm"
need wasm-ld-19 "$llvm"
need rustc "https://rustup.rs; a linker that makes components comes with it"
need wit-bindgen "cargo install --locked wit-bindgen-cli --no-default-features --features c"
need python3 "apt-get install python3-pip"
need componentize-py "pip install componentize-py==0.25.1"
(build_c)
(build_python)
