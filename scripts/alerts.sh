#!/usr/bin/env bash
# Tries the alert rules with Prometheus: what they say of made-up hours, and whether a real service
# has the metrics that they ask for. Started by `make alerts`, which sets TOOLS and NIGHTSHIFT (the
# binary).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:$TOOLS/prometheus/usr/bin
command -v python3 >/dev/null || "$here/apt.sh" python3
if ! command -v promtool >/dev/null; then
    # Taken out of Debian's package: installed, it would start a Prometheus of its own.
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    cd "$folder"
    apt-get download -qq prometheus 2>/dev/null \
        || { apt-get update -qq && apt-get download -qq prometheus; } \
        || { echo "please install Prometheus" >&2; exit 1; }
    dpkg -x prometheus*.deb unpacked
    mkdir -p "$TOOLS"
    mv unpacked "$TOOLS/prometheus"
fi
promtool check rules "$here/../helm/nightshift/files/alerts.yaml"
promtool test rules "$here/alerts.yaml" "$here/alerts-apart.yaml"
python3 "$here/alerts.py"
