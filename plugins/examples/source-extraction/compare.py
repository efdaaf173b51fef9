#!/usr/bin/env python3
"""Compares the plugins' catalogues with that of SEP itself, on real images.

Needs the packages sep and astropy. Prints a table, and exits with 1 if a plugin is less close to
SEP than it should be: the C plugin on any image, the Python one on image.fits.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import astropy
import numpy as np
import sep
from astropy.io import fits

TASK_PATH = "astronomy.extract_sources"
# A source is compared if its peak is so many times the background's noise.
BRIGHT = 5.0
# What is near enough: in pixels, and as a fraction.
POSITION = 0.5
FLUX = 0.05
# Times that each is run, for a mean.
REPEAT = 6
# The share that has to be near enough: of the sources' positions, and of the fluxes of these.
EVERYWHERE = {"c": 1.0, "python": 0.0}
ON_IMAGE_FITS = {"c": 1.0, "python": 0.95}


class Row(NamedTuple):
    image: str
    plugin: str
    native_count: int
    count: int
    bright: int
    positions: float
    fluxes: float
    same: bool
    native_seconds: float
    seconds: float

    def good_enough(self) -> bool:
        least = (ON_IMAGE_FITS if self.image == "image.fits" else EVERYWHERE)[self.plugin]
        return min(self.positions, self.fluxes) >= least


def main() -> None:
    # ESO's older headers are not quite as FITS has them.
    astropy.log.setLevel("ERROR")
    arguments = parse()
    rows = []
    for path in sorted(arguments.images.glob("*.fits")):
        for plugin in ("c", "python"):
            found, seconds = run_plugin(arguments.nightshift, getattr(arguments, plugin), path)
            rows.append(compare(path, plugin, found, seconds))
    print_table(rows)
    if not rows or not all(row.good_enough() for row in rows):
        sys.exit("a plugin is less close to SEP than it should be")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nightshift", help="the binary")
    parser.add_argument("images", type=Path, help="the folder that images.py has filled")
    parser.add_argument("c", help="the C plugin")
    parser.add_argument("python", help="the Python plugin")
    return parser.parse_args()


def run_plugin(nightshift: str, component: str, path: Path) -> tuple[dict, float]:
    """What the plugin returns, and how many seconds a run takes."""
    command = [nightshift, "plugin", "run", component, TASK_PATH, "--repeat", str(REPEAT)]
    command += ["--args", json.dumps([f"/data/images/{path.name}"])]
    command += ["--directory", f"images={path.parent}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{path.name} with {component}:\n{done.stdout}{done.stderr}")
    mean = re.search(r"mean ([\d.]+) ms", done.stderr).group(1)
    return json.loads(done.stdout), float(mean) / 1000


def run_native(path: Path) -> tuple[np.ndarray, float, float]:
    """SEP's own catalogue, the background's noise, and how many seconds both take."""
    start = time.perf_counter()
    for _ in range(REPEAT):
        data = read(path)
        background = sep.Background(data, bw=64, bh=64)
        background.subfrom(data)
        sources = sep.extract(data, 1.5, err=background.globalrms, filter_type="conv")
    return sources, background.globalrms, (time.perf_counter() - start) / REPEAT


def read(path: Path) -> np.ndarray:
    """As the plugins do: astropy by itself computes with single precision."""
    with fits.open(path, do_not_scale_image_data=True) as file:
        header = file[0].header
        data = header.get("BZERO", 0.0) + header.get("BSCALE", 1.0) * file[0].data.astype(float)
        return data.astype(np.float32)


def compare(path: Path, plugin: str, found: dict, seconds: float) -> Row:
    native, rms, native_seconds = run_native(path)
    bright = native[native["peak"] > BRIGHT * rms]
    theirs = np.array([(s["x"], s["y"], s["flux"]) for s in found["sources"]])
    distances = np.hypot(theirs[:, 0] - bright["x"][:, None], theirs[:, 1] - bright["y"][:, None])
    nearest = distances.argmin(axis=1)
    matched = distances.min(axis=1) <= POSITION
    errors = np.abs(theirs[nearest, 2] / bright["flux"] - 1)[matched]
    return Row(
        path.name,
        plugin,
        len(native),
        len(theirs),
        len(bright),
        matched.mean(),
        (errors <= FLUX).mean(),
        is_same(native, found),
        native_seconds,
        seconds,
    )


def is_same(native: np.ndarray, found: dict) -> bool:
    """Whether each number of each source is the same, to the last bit of what SEP computes."""
    names = {"area": "npix", "flags": "flag"}
    kinds = {"x": np.float64, "y": np.float64, "area": np.int64, "flags": np.int64}
    columns = ("x", "y", "flux", "peak", "area", "a", "b", "theta", "flags")
    expected = [native[names.get(c, c)].astype(kinds.get(c, np.float32)) for c in columns]
    actual = [np.array([s[c] for s in found["sources"]], kinds.get(c, np.float32)) for c in columns]
    return sorted(zip(*expected, strict=True)) == sorted(zip(*actual, strict=True))


def print_table(rows: list[Row]) -> None:
    print(
        f"| image | plugin | sources: SEP | plugin | brighter than {BRIGHT:g} rms "
        f"| within {POSITION:g} pixel | flux within {FLUX:.0%} | same to the last bit "
        "| time: SEP | plugin |"
    )
    print("|---|---|--:|--:|--:|--:|--:|---|--:|--:|")
    for row in rows:
        print(
            f"| {row.image} | {row.plugin} | {row.native_count} | {row.count} | {row.bright} "
            f"| {row.positions:.1%} | {row.fluxes:.1%} | {'yes' if row.same else 'no'} "
            f"| {row.native_seconds * 1000:.0f} ms | {row.seconds * 1000:.0f} ms |"
        )


if __name__ == "__main__":
    main()
