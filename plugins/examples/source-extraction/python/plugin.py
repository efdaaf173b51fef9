"""The plugin: one task, astronomy.extract_sources. See ../README.md."""

import background
import fits
import sources
from fetch import fetch
from nightshift_plugin import Tasks, log, step, stop_if_asked, task

__all__ = ["Tasks"]


@task("astronomy.extract_sources", "Find the sources of a FITS image", timeout_s=600)
def extract_sources(
    image: str,
    *,
    threshold: float = 1.5,
    minimum_area: int = 5,
    deblend_levels: int = 32,
    deblend_contrast: float = 0.005,
    mesh: int = 64,
) -> dict:
    """Finds sources as Source Extractor does, in pure Python.

    - `image`: a path below `/data/` or a URL.
    - `threshold`: what stands out by so many times the background's noise is a source.
    - `minimum_area`: of a source, in pixels.
    - `deblend_levels`, `deblend_contrast`: sources that touch each other are looked for at so
      many levels, and each has to have such a share of the light.
    - `mesh`: the side of the squares in which the background is measured, in pixels.
    """
    if not isinstance(image, str):
        raise TypeError("image has to be a string")
    check("threshold", threshold, float, 0.1, 1_000_000)
    check("minimum_area", minimum_area, int, 1, 1_000_000)
    check("deblend_levels", deblend_levels, int, 1, 64)
    check("deblend_contrast", deblend_contrast, float, 0, 1)
    check("mesh", mesh, int, 8, 1_000_000)

    step(0.0, "fetching the image")
    pixels = fits.read(fetch(image))
    step(0.1, "measuring the background")
    sky = background.measure(pixels, mesh, stop_if_asked)
    step(0.3, "subtracting the background")
    pixels = background.subtract(pixels, sky, mesh, stop_if_asked)
    step(0.5, "extracting sources")
    options = sources.Options(threshold * sky.rms, minimum_area, deblend_levels, deblend_contrast)
    found = sources.extract(pixels, options, stop_if_asked)
    log(f"background {sky.level:g}, rms {sky.rms:g}, {len(found)} sources")
    return {
        "image": image,
        "width": len(pixels[0]),
        "height": len(pixels),
        "background": {"level": sky.level, "rms": sky.rms},
        "sources": [source._asdict() for source in sorted(found, key=lambda s: -s.flux)],
    }


def check(name: str, value: object, kind: type, least: float, most: float) -> None:
    kinds = int if kind is int else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name} has to be a{' whole' * (kind is int)} number")
    if not least <= value <= most:
        raise ValueError(f"{name} has to be from {least} to {most}, not {value}")
