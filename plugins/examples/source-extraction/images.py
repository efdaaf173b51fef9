#!/usr/bin/env python3
"""Fetches three real FITS images that come with Python packages: images.py FOLDER."""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

# The package, the file in it, and its SHA-256.
IMAGES = [
    (
        "sep==1.4.1",  # three exposures of the field NA36 in R, with ESO's NTT
        "data/image.fits",
        "b46a8892dee1b1a2335163fd32e13e3897748bedfdc6a383fee588415aa86c5d",
    ),
    (
        "astropy==8.0.2",  # the globular cluster M 13
        "astropy/io/fits/hdu/compressed/tests/data/m13.fits",
        "eb3e208edbe302cae0ea45d17ab618930d85847da3f5e6ffd53d9410ec0a5a45",
    ),
    (
        "ccdproc==2.5.1",  # with the 1.0 m telescope of the SAAO
        "ccdproc/tests/data/a8280271.fits",
        "f1a33e416b601c57a77893e11ab158e0216ab1f48c634adcabdb757d84111f02",
    ),
]


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        download([package for package, _, _ in IMAGES], work)
        for package, member, digest in IMAGES:
            content = unpack(Path(work), package, member)
            if hashlib.sha256(content).hexdigest() != digest:
                sys.exit(f"{member} of {package} is not the file that was expected")
            (folder / Path(member).name).write_bytes(content)


def download(packages: list[str], folder: str) -> None:
    # Only the source package of sep has its image.
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "sep"]
    subprocess.run([*pip, "--dest", folder, *packages], check=True)


def unpack(folder: Path, package: str, member: str) -> bytes:
    stem = package.replace("==", "-")
    source = folder / f"{stem}.tar.gz"
    if source.exists():
        with tarfile.open(source) as archive:
            return archive.extractfile(f"{stem}/{member}").read()
    with zipfile.ZipFile(next(folder.glob(f"{stem}-*.whl"))) as archive:
        return archive.read(member)


main()
