#!/usr/bin/env bash
# Lints the OpenAPI document, and fails where it breaks clients of the document before it. Started
# by `make contract`, which sets TOOLS and OASDIFF (a version).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
openapi=$here/../openapi
command -v npm >/dev/null || "$here/apt.sh" nodejs npm
"$here/go.sh" github.com/oasdiff/oasdiff github.com/oasdiff/oasdiff "$OASDIFF" >/dev/null

lock=$openapi/checks/package-lock.json
node=$TOOLS/openapi-checks
if ! cmp -s "$lock" "$node/complete"; then
    rm -rf "$node"
    mkdir -p "$node"
    cp "$lock" "$openapi/checks/package.json" "$node"
    npm ci --prefix "$node" --no-audit --no-fund --ignore-scripts
    cp "$lock" "$node/complete"
fi
cd "$openapi/checks"
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
for document in openapi openapi-3.0; do
    "$node/node_modules/.bin/redocly" lint --config "$document.yaml" --max-problems 1000 \
        "../$document.json" 2>&1
done | tee "$node/lint.log"
if grep -q 'Warning was generated' "$node/lint.log"; then
    exit 1
fi

"$node/node_modules/.bin/spectral" lint --ruleset spectral.yaml --fail-severity hint ../openapi.json

python3 "$here/breaks.py" "$TOOLS/bin/oasdiff" severity.txt ../openapi.json
"$TOOLS/bin/oasdiff" breaking --fail-on ERR --severity-levels severity.txt ../baseline.json \
    ../openapi.json
