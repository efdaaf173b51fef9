#!/usr/bin/env bash
# django-nightshift beside django-tasks-db. Started by `make bench-django`, which sets TOOLS and
# NIGHTSHIFT (the release binary).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$("$here/../scripts/python.sh" django61 12 || "$here/../scripts/python.sh" django52)
"$venv/bin/python" -c 'import sys, django; print("Python", sys.version.split()[0], "Django", django.__version__)'
PYTHONPATH=$here/../django PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" "$here/django/compare.py"
