"""Position and shape of a source, from the moments of its light."""

import math
from typing import NamedTuple

from detection import LINE, Group
from fits import Rows

# Sources less extended than this, as the determinant of their second moments, count as points,
# and get the second moments of an evenly lit pixel added.
POINT = 1 / 144
PIXEL = 1 / 12


class Shape(NamedTuple):
    x: float
    y: float
    # Second moments around the position.
    xx: float
    yy: float
    xy: float
    was_point: bool

    def axes(self) -> tuple[float, float, float]:
        """The half axes of the ellipse that has these moments, and its angle to the x axis."""
        middle, difference = (self.xx + self.yy) / 2, (self.xx - self.yy) / 2
        a = math.sqrt(middle + math.hypot(difference, self.xy))
        return a, self.area() / a, math.atan2(self.xy, difference) / 2

    def area(self) -> float:
        """The ellipse's, divided by pi."""
        return math.sqrt(self.determinant())

    def determinant(self) -> float:
        return self.xx * self.yy - self.xy * self.xy

    def distance(self, x: float, y: float) -> float:
        """The square of the distance from the position, the ellipse's edge being at 1."""
        dx, dy = x - self.x, y - self.y
        turned = self.yy * dx * dx - 2 * self.xy * dx * dy + self.xx * dy * dy
        return turned / self.determinant()


def shape(group: Group, centre: Shape | None = None) -> Shape:
    """The shape of the group around its barycentre, or around the position of `centre`."""
    light = sum(group.values())
    if centre:
        x, y = centre.x, centre.y
    else:
        x = sum(v * (number % LINE) for number, v in group.items()) / light
        y = sum(v * (number // LINE) for number, v in group.items()) / light
    xx = yy = xy = 0.0
    for number, v in group.items():
        dx, dy = number % LINE - x, number // LINE - y
        xx += v * dx * dx
        yy += v * dy * dy
        xy += v * dx * dy
    xx, yy, xy = xx / light, yy / light, xy / light
    if xx * yy - xy * xy >= POINT:
        return Shape(x, y, xx, yy, xy, False)
    return Shape(x, y, xx + PIXEL, yy + PIXEL, xy, True)


def narrowing(image: Rows, group: Group, form: Shape, level: float) -> float:
    """How much smaller a Gaussian's ellipse is than that of the group's moments, at most 1.

    The Gaussian is the one that falls from half way between its peak and `level` to `level` over
    as many pixels as the group does."""
    light = [image[number // LINE][number % LINE] for number in group]
    half = (level + max(light)) / 2
    between = max(sum(level < v <= half for v in light), 1)
    return min(between / (2 * math.pi * math.log(max(half / level, 1.01)) * form.area()), 1.0)
