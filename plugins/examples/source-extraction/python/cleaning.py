"""Leaves out what is likely to be no source, but a piece of the wing of a brighter one."""

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from shapes import Shape

# How far a wing reaches, in long half axes.
REACH = 10.0
# The side of the squares by which neighbours are found, in pixels.
CELL = 32


class Candidate(NamedTuple):
    form: Shape
    light: float
    area: int
    # How far its brightest pixels are above the threshold, as many as a source has to have.
    margin: float
    narrowing: float

    def wing(self, other: "Candidate", threshold: float) -> float:
        """The light at the other one, if it falls off from here as 1 / (1 + distance^2)."""
        ellipse = math.pi * self.form.area()
        peak = self.light / (2 * ellipse * self.narrowing)
        steepness = (peak / threshold - 1) * ellipse / self.area
        fall = 1 + steepness * self.form.distance(other.form.x, other.form.y)
        return peak / fall if fall > 1 else 0.0

    def cells(self) -> Iterator[tuple[int, int]]:
        reach = REACH * self.form.axes()[0]
        x, y = self.form.x, self.form.y
        return product(span(x - reach, x + reach), span(y - reach, y + reach))


def span(first: float, last: float) -> range:
    return range(int(first // CELL), int(last // CELL) + 1)


def clean(candidates: list[Candidate], threshold: float) -> list[int]:
    """The indices of those that stay."""
    stay = []
    reached = defaultdict(list)
    for i in sorted(range(len(candidates)), key=lambda i: -candidates[i].light):
        here = candidates[i]
        cells = list(here.cells())
        brighter = (there for cell in cells for there in reached[cell])
        if not any(there.wing(here, threshold) > here.margin for there in brighter):
            stay.append(i)
            for cell in cells:
                reached[cell].append(here)
    return stay
