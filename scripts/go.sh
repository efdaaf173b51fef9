#!/usr/bin/env bash
# Installs a program written in Go into $TOOLS/bin, unless it is there, and prints the folder of the
# Go compiler, which is installed as well where the machine has none.
# Usage: scripts/go.sh PACKAGE MODULE VERSION
set -euo pipefail

package=$1 module=$2 version=$3
here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null || PATH=$("$here/python.sh" "$here/../examples/clients/go/requirements.txt")/bin:$PATH
binary=$TOOLS/bin/$(basename "$package")
if ! go version -m "$binary" 2>/dev/null | grep -qE "mod\s+$module\s+v$version\s"; then
    GOBIN=$TOOLS/bin go install "$package@v$version" >&2
fi
dirname "$(command -v go)"
