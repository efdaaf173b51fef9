#!/usr/bin/env bash
# Follows the TOM manual with Nightshift: examples/tom, with the Django package as it is installed.
# Started by `make tom`, which sets TOOLS and NIGHTSHIFT (the binary).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=$("$here/python.sh" "$here/../django/requirements/tom.txt")
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
# From a copy, as a build leaves files beside what it builds.
cp -r "$here/../django" "$packages/source"
"$venv/bin/pip" install --quiet --no-deps --target "$packages/installed" "$packages/source"
PYTHONPATH=$packages/installed PYTHONDONTWRITEBYTECODE=1 \
    "$venv/bin/python" "$here/../examples/tom/tom.py"
