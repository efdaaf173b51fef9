#!/usr/bin/env bash
# Makes a Debian package of a binary, and looks at what is in it and whether it can be installed.
# Started by `make deb`, which sets TOOLS, CARGO_DEB (a version), NIGHTSHIFT (the binary) and OUT.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
if ! "$TOOLS/bin/cargo-deb" --version 2>/dev/null | grep -qF "$CARGO_DEB"; then
    cargo install --quiet --locked --root "$TOOLS" cargo-deb --version "$CARGO_DEB"
fi

# cargo-deb takes them from there.
made=target/deb
rm -rf "$made"
mkdir -p "$made/man" "$OUT"
"$NIGHTSHIFT" man "$made/man"
"$NIGHTSHIFT" completions bash >"$made/nightshift.bash"
"$NIGHTSHIFT" completions zsh >"$made/_nightshift"
"$NIGHTSHIFT" completions fish >"$made/nightshift.fish"
package=$("$TOOLS/bin/cargo-deb" deb --no-build --locked -p nightshift --output "$OUT" | tail -n 1)
echo "$package, $(stat -c %s "$package") bytes"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
dpkg-deb -R "$package" "$folder/all"
dpkg-deb -f "$package" Package Version Architecture Depends

fail() { echo "FAILED   $*"; exit 1; }
for file in usr/bin/nightshift etc/nightshift/nightshift.toml usr/share/man/man1/nightshift.1.gz \
    usr/share/man/man1/nightshift-serve.1.gz usr/share/bash-completion/completions/nightshift \
    usr/share/zsh/vendor-completions/_nightshift usr/share/fish/vendor_completions.d/nightshift.fish \
    usr/share/doc/nightshift/docs/OPERATING.md usr/share/doc/nightshift/alerts.yaml \
    usr/lib/systemd/system/nightshift.service; do
    [ -s "$folder/all/$file" ] || fail "there is no $file"
done
echo "ok       all files are there"
grep -qx /etc/nightshift/nightshift.toml "$folder/all/DEBIAN/conffiles" || fail "no conffile"
echo "ok       the settings are a conffile"
for script in postinst prerm postrm; do
    sh -n "$folder/all/DEBIAN/$script"
    ! grep -q '#DEBHELPER#' "$folder/all/DEBIAN/$script" || fail "$script does nothing with units"
done
grep -q 'enable.*nightshift.service' "$folder/all/DEBIAN/postinst" || fail "the unit is not enabled"
echo "ok       the scripts enable and start the unit"
"$folder/all/usr/bin/nightshift" --version
bash -n "$folder/all/usr/share/bash-completion/completions/nightshift"

# The unit names the program where the package puts it.
if command -v systemd-analyze >/dev/null; then
    sed "s#/usr/bin/nightshift#$folder/all&#; /^Documentation=/d" \
        "$folder/all/usr/lib/systemd/system/nightshift.service" >"$folder/nightshift.service"
    systemd-analyze verify "$folder/nightshift.service"
    echo "ok       systemd reads the unit"
    systemd-analyze security --offline=true --threshold=20 "$folder/nightshift.service" | tail -n 1
fi
