#!/usr/bin/env bash
# Builds the example plugins into $OUT, runs their tests, and tries each out. Started by
# `make plugins`, which sets TOOLS, NIGHTSHIFT (the binary), OUT and WIT_BINDGEN (a version).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
examples=$here/../plugins/examples
packages=()
command -v clang-19 >/dev/null || packages+=(clang-19)
command -v wasm-ld-19 >/dev/null || packages+=(lld-19)
for package in wasi-libc libclang-rt-19-dev-wasm32; do
    dpkg -s "$package" >/dev/null 2>&1 || packages+=("$package")
done
command -v npm >/dev/null || packages+=(nodejs npm)
# Where rustup has no standard library for the target, Debian's is built.
if [ ! -d "$(rustc --print target-libdir --target wasm32-wasip2)" ]; then
    for package in rustc-web rust-web-src; do
        dpkg -s "$package" >/dev/null 2>&1 || packages+=("$package")
    done
fi
"$here/apt.sh" ${packages[@]+"${packages[@]}"}
if ! "$TOOLS/bin/wit-bindgen" --version 2>/dev/null | grep -qF "$WIT_BINDGEN"; then
    cargo install --quiet --locked --root "$TOOLS" wit-bindgen-cli --version "$WIT_BINDGEN" \
        --no-default-features --features c
fi
venv=$("$here/python.sh" "$examples/plugins.txt" 11)
export PATH=$TOOLS/bin:$venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1

(cd "$examples/alert-filter" && node --test)
CARGO_TARGET_DIR=$OUT/test-visibility cargo test --quiet --locked \
    --manifest-path "$examples/visibility/Cargo.toml"

mkdir -p "$OUT/bin"
ln -sf "$NIGHTSHIFT" "$OUT/bin/nightshift"
export PATH=$OUT/bin:$PATH
for example in alert-filter visibility source-extraction; do
    "$examples/$example/build.sh" "$OUT"
done
for component in "$OUT"/*.wasm; do
    nightshift plugin check "$component"
done
cd "$OUT"
python3 "$examples/readme.py" "$examples"/{alert-filter,visibility}/README.md
[ -e images/image.fits ] || python3 "$examples/source-extraction/images.py" images
python3 "$examples/source-extraction/compare.py" nightshift images \
    source-extraction-c.wasm source-extraction-python.wasm
