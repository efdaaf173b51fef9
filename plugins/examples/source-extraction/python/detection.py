"""Finds groups of connected pixels that stand out of the smoothed image."""

from array import array
from collections.abc import Iterator

from fits import Rows

# A pixel's number, and those of its neighbours relative to it. An image is less wide than this.
LINE = 1 << 20
NEIGHBOURS = (-LINE - 1, -LINE, -LINE + 1, -1, 1, LINE - 1, LINE, LINE + 1)

# The smoothed values of some pixels, by their numbers y * LINE + x.
Group = dict[int, float]


def smooth(image: Rows) -> Rows:
    """The image under the kernel 1 2 1, 2 4 2, 1 2 1; beyond the border there is nothing."""
    nothing = array("d", bytes(8 * len(image[0])))
    padded = [nothing, *image, nothing]
    result = []
    for above, row, below in zip(padded, padded[1:], padded[2:], strict=False):
        down = [a + 2.0 * v + b for a, v, b in zip(above, row, below, strict=True)]
        around = zip([0.0, *down], down, [*down[1:], 0.0], strict=False)
        result.append(array("d", [(a + 2.0 * v + b) / 16.0 for a, v, b in around]))
    return result


def above(smoothed: Rows, threshold: float) -> Group:
    return {
        y * LINE + x: v
        for y, row in enumerate(smoothed)
        for x, v in enumerate(row)
        if v > threshold
    }


def connected(pixels: Group) -> Iterator[Group]:
    """Parts the pixels into groups that touch each other nowhere, not even at a corner."""
    left = dict(pixels)
    while left:
        number, value = left.popitem()
        group = {number: value}
        edge = [number]
        for number in edge:
            for step in NEIGHBOURS:
                if number + step in left:
                    group[number + step] = left.pop(number + step)
                    edge.append(number + step)
        yield group
