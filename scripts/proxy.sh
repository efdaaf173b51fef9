#!/usr/bin/env bash
# Tries the configurations of packaging/proxy with real proxies, before two services on one database
# that are restarted under load. Started by `make proxy`, which sets TOOLS, NIGHTSHIFT (the binary) and
# a PostgreSQL of their own.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null || "$here/apt.sh" python3
programs=$TOOLS/proxies
if [ ! -e "$programs/complete" ]; then
    # Taken out of Debian's packages: installed, they would start servers of their own.
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    cd "$folder"
    packages=(nginx haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1)
    apt-get download -qq "${packages[@]}" 2>/dev/null \
        || { apt-get update -qq && apt-get download -qq "${packages[@]}"; } \
        || { echo "nginx and HAProxy cannot be had: this needs Debian 12" >&2; exit 1; }
    rm -rf "$programs"
    for package in *.deb; do
        dpkg -x "$package" "$programs"
    done
    touch "$programs/complete"
fi
libraries=$(dirname "$(find "$programs/usr/lib" -name 'liblua5.3.so.0' | head -n 1)")
NGINX=$programs/usr/sbin/nginx HAPROXY=$programs/usr/sbin/haproxy LIBRARIES=$libraries \
    python3 "$here/proxy.py"
