#!/usr/bin/env bash
# django-nightshift beside django-tasks-db. Started by `make bench-django`, which sets TOOLS and
# NIGHTSHIFT (the release binary).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
requirements=$here/../django/requirements
venv=$("$here/../scripts/python.sh" "$requirements/django61.txt" 12 ||
    "$here/../scripts/python.sh" "$requirements/django52.txt")
"$venv/bin/python" -c 'import sys, django; print("Python", sys.version.split()[0], "Django", django.__version__)'
PYTHONPATH=$here/../django PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" "$here/django/compare.py"
