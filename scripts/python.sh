#!/usr/bin/env bash
# Makes a virtual environment of a requirements file in $TOOLS, and prints its folder.
# Usage: scripts/python.sh FILE [LEAST_MINOR]; exit status 3 without a Python 3.LEAST_MINOR or later.
set -euo pipefail

requirements=$1
name=$(basename "$requirements" .txt)
least=${2:-10}
# One for each set of requirements, so that an old one is never mistaken for a new one.
venv=$TOOLS/python/$name-$(sha256sum "$requirements" | cut -c1-12)

find_python() {
    local candidate
    for candidate in python3 python3.{14,13,12,11,10} "$HOME"/.pyenv/versions/3.*/bin/python3; do
        if "$candidate" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, $least))" \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

if [ ! -e "$venv/complete" ]; then
    python=$(find_python) || exit 3
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$requirements" >&2
    touch "$venv/complete"
fi
echo "$venv"
