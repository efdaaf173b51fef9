"""Finds and measures the sources of an image without background, as Source Extractor does.

E. Bertin and S. Arnouts, Astronomy & Astrophysics Supplement 117 (1996) 393, describe how.
"""

from collections.abc import Callable
from heapq import nlargest
from typing import NamedTuple

from cleaning import Candidate, clean
from deblending import Options, Part, deblend
from detection import LINE, above, connected, smooth
from fits import Rows
from shapes import narrowing, shape

# Flags, as Source Extractor's.
MERGED = 1
TRUNCATED = 2
WAS_POINT = 8


class Source(NamedTuple):
    x: float
    y: float
    flux: float
    peak: float
    area: int
    a: float
    b: float
    theta: float
    flags: int


def extract(image: Rows, options: Options, between: Callable[[], None]) -> list[Source]:
    """Calls `between` again and again, which may end it by an exception."""
    sources, candidates = [], []
    for group in connected(above(smooth(image), options.threshold)):
        if len(group) >= options.minimum_area:
            for part in deblend(image, group, options, between):
                sources.append(measure(image, part))
                candidates.append(candidate(image, part, options))
            between()
    return [sources[i] for i in clean(candidates, options.threshold)]


def measure(image: Rows, part: Part) -> Source:
    light = [image[n // LINE][n % LINE] for n in part.pixels]
    form = shape(part.pixels, part.core)
    a, b, theta = form.axes()
    bottom, right = len(image) - 1, len(image[0]) - 1
    truncated = any(n // LINE in (0, bottom) or n % LINE in (0, right) for n in part.pixels)
    flags = MERGED * bool(part.core) + TRUNCATED * truncated + WAS_POINT * form.was_point
    return Source(form.x, form.y, sum(light), max(light), len(light), a, b, theta, flags)


def candidate(image: Rows, part: Part, options: Options) -> Candidate:
    form = shape(part.pixels, part.core)
    smoothed = part.pixels.values()
    margin = nlargest(options.minimum_area, smoothed)[-1] - options.threshold
    narrow = narrowing(image, part.pixels, form, options.threshold)
    return Candidate(form, sum(smoothed), len(smoothed), margin, narrow)
