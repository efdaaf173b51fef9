#!/usr/bin/env bash
# The tests of django/ on each generation of Django's task framework. Started by `make test-django`,
# which sets TOOLS, NIGHTSHIFT (the binary) and a PostgreSQL of their own.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../django"
export PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1

# Sources whose tests are run with our backend in the place of theirs.
export UPSTREAM_SOURCES=$TOOLS/upstream
fetch() {
    local python=$1 project=$2 version=$3
    [ -e "$UPSTREAM_SOURCES/$project-$version.tar.gz" ] ||
        "$python" -m pip download --quiet --no-deps --no-binary :all: \
            --dest "$UPSTREAM_SOURCES" "$project==$version"
}

# Several tests at a time, since most of them wait for programs to start and end. Those of
# django-tasks-db do not bear that: they give a worker so many seconds for each thing.
ALONE=process_tests
run() {
    local venv=$1 which=${2:-}
    echo "== $("$venv/bin/python" -c 'import sys, django; print("Python", sys.version.split()[0], "Django", django.__version__)') $("$venv/bin/pip" list 2>/dev/null | grep -E '^(django-tasks|tomtoolkit) ' | tr -s ' ' | paste -sd ' ') $which"
    "$venv/bin/python" -m pytest --quiet -p no:cacheprovider -n 3 -k "not $ALONE${which:+ and $which}"
    "$venv/bin/python" -m pytest --quiet -p no:cacheprovider -k "$ALONE${which:+ and $which}"
}

# What lies between the oldest and the newest django-tasks: the API itself, on SQLite.
between() {
    local venv=$1 version=$2 packages=$TOOLS/python/django-tasks-$2
    [ -e "$packages" ] || "$venv/bin/pip" install --quiet --no-deps --target "$packages" \
        "django-tasks==$version"
    echo "== django-tasks $version"
    PYTHONPATH=$packages:$PYTHONPATH "$venv/bin/python" -m pytest --quiet -p no:cacheprovider -n 3 \
        tests/test_results.py -k "not postgres"
}

tom=$("$here/python.sh" requirements/tom.txt)
django52=$("$here/python.sh" requirements/django52.txt)
fetch "$django52/bin/python" django_tasks_db 0.13.0

missing=
if django61=$("$here/python.sh" requirements/django61.txt 12); then
    fetch "$django61/bin/python" django 6.1.3
    "$django61/bin/mypy" --cache-dir "$TOOLS/mypy"
    # A worker asks the service, whose database is the service's own matter.
    run "$django61" "not (postgres and test_worker)"
elif [ $? = 3 ]; then
    missing="Django 6.1 was NOT tested: there is no Python 3.12 or later on this machine"
else
    exit 1
fi
run "$tom" "not postgres"
# How a worker handles processes and signals hangs on Python, and not on the framework.
run "$django52" "not postgres and not test_worker_"
for version in 0.7.0 0.8.1 0.9.0 0.10.0 0.11.0; do
    between "$django52" "$version"
done
if [ -n "$missing" ]; then
    printf '\n!!! %s !!!\n\n' "$missing" >&2
fi
