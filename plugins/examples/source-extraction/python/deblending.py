"""Separates sources whose light has run together.

The group is cut at levels between threshold and peak. Where a branch of the tree that arises
forks into branches that each hold a fair share of the group's light, each is a source. A pixel
below the forks goes to the source that should give it the most light.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from detection import LINE, NEIGHBOURS, Group, connected
from fits import Rows
from shapes import Shape, narrowing, shape

BRANCH_AREA = 3
# Times the core's peak, which is all that is believed of the peak of a Gaussian through it.
PEAK_MOST = 4


class Options(NamedTuple):
    # In units of the image.
    threshold: float
    minimum_area: int
    deblend_levels: int
    deblend_contrast: float


class Part(NamedTuple):
    pixels: Group
    # The shape of what is above the fork, where no other source disturbs it; none if whole.
    core: Shape | None


def deblend(image: Rows, group: Group, options: Options, between: Callable[[], None]) -> list[Part]:
    least_light = options.deblend_contrast * sum(group.values())
    least_area = min(options.minimum_area, BRANCH_AREA)
    maxima = [n for n in group if all(group.get(n + s, 0.0) <= group[n] for s in NEIGHBOURS)]
    steepness = max(group.values()) / options.threshold

    def cores(branch: Group, step: int) -> Iterator[tuple[Group, float]]:
        """The sources in a branch, each with the level of its fork; none if it doesn't fork."""
        if step == options.deblend_levels or sum(n in branch for n in maxima) < 2:
            return
        between()
        level = options.threshold * steepness ** (step / options.deblend_levels)
        higher = connected({n: v for n, v in branch.items() if v > level})
        children = [child for child in higher if len(child) >= least_area]
        fair = [sum(child.values()) - level * len(child) > least_light for child in children]
        for child, is_fair in zip(children, fair, strict=True):
            within = list(cores(child, step + 1))
            if within:
                yield from within
            elif is_fair and sum(fair) > 1:
                yield child, level

    found = list(cores(group, 1))
    return share_out(image, group, found, options.threshold) if found else [Part(group, None)]


def share_out(
    image: Rows, group: Group, cores: list[tuple[Group, float]], threshold: float
) -> list[Part]:
    parts = [Part(dict(core), shape(core)) for core, _ in cores]
    profiles = [profile(image, core, level, threshold) for core, level in cores]
    taken = set().union(*(core for core, _ in cores))
    for number, value in group.items():
        if number not in taken:
            light = [at(number % LINE, number // LINE) for at in profiles]
            parts[light.index(max(light))].pixels[number] = value
    return parts


def profile(
    image: Rows, core: Group, level: float, threshold: float
) -> Callable[[int, int], float]:
    """The logarithm of the light that a Gaussian through the core gives a pixel."""
    form = shape(core)
    narrow = narrowing(image, core, form, level)
    peak = math.log(threshold) + len(core) / (2 * math.pi * narrow * form.area())
    peak = min(peak, math.log(PEAK_MOST * max(core.values())))
    return lambda x, y: peak - form.distance(x, y) / narrow / 2
