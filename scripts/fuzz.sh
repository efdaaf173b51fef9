#!/usr/bin/env bash
# Runs every fuzz target, or the given ones, for $SECONDS_EACH seconds. What it finds it keeps in
# fuzz/artifacts, what it has learnt in fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! "$TOOLS/bin/cargo-fuzz" --version 2>/dev/null | grep -qF "$CARGO_FUZZ"; then
    cargo install --quiet --locked --root "$TOOLS" cargo-fuzz --version "$CARGO_FUZZ"
fi
# The dependencies that the service is shipped with.
[ fuzz/Cargo.lock -nt Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock
# The flags of coverage and of the address sanitizer are called unstable; stable Rust has them.
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
for target in "${@:-${targets[@]}}"; do
    cargo fuzz run "$target" -- \
        -max_total_time="$SECONDS_EACH" -timeout=5 -max_len=16384 -dict=fuzz/words.dict \
        -print_final_stats=1
done
