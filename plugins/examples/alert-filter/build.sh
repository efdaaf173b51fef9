#!/usr/bin/env bash
# Builds the component: build.sh OUT writes OUT/alert-filter.wasm. Needs Node.js 20 and npm.
# Everything else is written to OUT/build-alert-filter, so that the sources stay clean.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"

build="$out/build-alert-filter"
mkdir -p "$build"
cp package.json package-lock.json "$build"
npm ci --prefix "$build" --no-audit --no-fund --loglevel=error
"$build/node_modules/.bin/componentize-qjs" --sync --wit ../../wit --world plugin \
    --js plugin.js --output "$out/alert-filter.wasm"
