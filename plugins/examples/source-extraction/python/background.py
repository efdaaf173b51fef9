"""Measures the background of an image as Source Extractor does (Bertin & Arnouts 1996).

The image is cut into square meshes. In each, pixels far from the median are left out until none
is left to leave out; a 3 x 3 median filter over the meshes takes out those that a bright source
has filled; a bicubic spline goes through their centres.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from statistics import median
from typing import NamedTuple

from fits import Rows

CLIP = 3.0
ROUNDS_MOST = 100
FILTER_REACH = 1

Map = list[list[float]]


class Level(NamedTuple):
    mean: float
    rms: float


class Background(NamedTuple):
    level: float
    rms: float
    nodes: Map


class Place(NamedTuple):
    """Between which nodes a pixel lies, and how much their values and curvatures count there."""

    node: int
    value: float
    next_value: float
    curvature: float
    next_curvature: float


def measure(image: Rows, mesh: int, between: Callable[[], None]) -> Background:
    """Calls `between` between meshes, which may end it by an exception."""
    levels = []
    for top in range(0, len(image), mesh):
        band = image[top : top + mesh]
        levels.append([mesh_level(band, left, mesh) for left in range(0, len(band[0]), mesh)])
        between()
    fill(levels)
    nodes = median_filter([[level.mean for level in row] for row in levels])
    noise = median_filter([[level.rms for level in row] for row in levels])
    level, rms = median(chain(*nodes)), median(chain(*noise))
    return Background(level, rms or 1.0, nodes)


def mesh_level(band: Rows, left: int, mesh: int) -> Level | None:
    """The most frequent value and the noise of a mesh; none if half of it is blank."""
    pixels = sorted(v for row in band for v in row[left : left + mesh] if math.isfinite(v))
    if 2 * len(pixels) < len(band) * len(band[0][left : left + mesh]):
        return None
    sums = list(accumulate(pixels, initial=0.0))
    squares = list(accumulate((v * v for v in pixels), initial=0.0))
    first, end = 0, len(pixels)
    for _ in range(ROUNDS_MOST):
        count = end - first
        mean = (sums[end] - sums[first]) / count
        rms = math.sqrt(max((squares[end] - squares[first]) / count - mean * mean, 0.0))
        middle = (pixels[first + (count - 1) // 2] + pixels[first + count // 2]) / 2
        kept = (
            bisect_left(pixels, middle - CLIP * rms, first, end),
            bisect_right(pixels, middle + CLIP * rms, first, end),
        )
        if kept == (first, end):
            break
        first, end = kept
    # Where sources crowd, the mean is drawn away so far that the median is the better guess.
    crowded = abs(mean - middle) >= 0.3 * rms
    return Level(middle if crowded else 2.5 * middle - 1.5 * mean, rms)


def fill(levels: list[list[Level | None]]) -> None:
    """Gives each blank mesh the level of the nearest one."""
    good = [(x, y, v) for y, row in enumerate(levels) for x, v in enumerate(row) if v]
    for y, row in enumerate(levels):
        for x, level in enumerate(row):
            if level is None:
                near = min(good, key=lambda g: math.hypot(g[0] - x, g[1] - y), default=None)
                row[x] = near[2] if near else Level(0.0, 1.0)


def median_filter(nodes: Map) -> Map:
    """At a border the window is as much smaller on the inner side as on the outer one."""

    def window(y: int, x: int) -> Iterator[float]:
        across = min(x, len(nodes[0]) - 1 - x, FILTER_REACH)
        along = min(y, len(nodes) - 1 - y, FILTER_REACH)
        for row in nodes[y - along : y + along + 1]:
            yield from row[x - across : x + across + 1]

    return [[median(window(y, x)) for x in range(len(nodes[0]))] for y in range(len(nodes))]


def subtract(image: Rows, background: Background, mesh: int, between: Callable[[], None]) -> Rows:
    # As Source Extractor does, which counts from the edges of pixels downwards, but from their
    # centres across.
    down = places(len(image), 0.0, mesh, len(background.nodes))
    across = places(len(image[0]), 0.5, mesh, len(background.nodes[0]))
    columns = [spline(column, down) for column in zip(*background.nodes, strict=True)]
    result = []
    for row, nodes in zip(image, zip(*columns, strict=True), strict=True):
        level = spline(nodes, across)
        result.append(array("d", [v - b for v, b in zip(row, level, strict=True)]))
        between()
    return result


def places(count: int, first: float, mesh: int, nodes: int) -> list[Place]:
    """Where pixels lie among the centres of meshes."""
    result = []
    for pixel in range(count):
        position = (pixel + first) / mesh - 0.5
        node = max(min(int(position), nodes - 2), 0)
        t = position - node
        s = 1.0 - t
        result.append(Place(node, s, t, s**3 - s, t**3 - t))
    return result


def spline(nodes: Sequence[float], at: list[Place]) -> list[float]:
    """The values of a cubic spline through the nodes."""
    if len(nodes) == 1:
        return [nodes[0]] * len(at)
    bends = curvatures(nodes)
    return [
        s * nodes[i] + t * nodes[i + 1] + s3 * bends[i] + t3 * bends[i + 1]
        for i, s, t, s3, t3 in at
    ]


def curvatures(nodes: Sequence[float]) -> list[float]:
    """A sixth of the spline's second derivative at each node, by elimination.

    Without the last division this were the natural spline. Source Extractor has it, and a
    catalogue should be like the one that it makes."""
    last = len(nodes) - 1
    factor, bends = [0.0] * len(nodes), [0.0] * len(nodes)
    for i in range(1, last):
        factor[i] = 1.0 / (4.0 - factor[i - 1])
        bend = nodes[i - 1] - 2.0 * nodes[i] + nodes[i + 1]
        bends[i] = (bend - bends[i - 1]) * factor[i]
    for i in range(last - 1, 0, -1):
        bends[i] -= factor[i] * bends[i + 1] / 6.0
    return bends
