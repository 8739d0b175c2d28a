"""The points of a sweep and the order in which they are measured: the neighbours of the best so far come first."""

import random
from collections.abc import Mapping, Sequence
from itertools import product

Axes = Mapping[str, Sequence[str]]  # values by the name of what is varied; the first is where the sweep starts
Point = tuple[tuple[str, str], ...]  # (name, value) pairs in the order of the axes


def points_of(axes: Axes) -> list[Point]:
    """Every combination, the start first."""
    return [tuple(zip(axes, values, strict=True)) for values in product(*axes.values())]


def parse_axes(words: Sequence[str]) -> dict[str, list[str]]:
    """`NAME=VALUE,VALUE` words. Raises ValueError for another form, and where a value comes twice."""
    found = {}
    for word in words:
        name, equals, values = word.partition("=")
        listed = values.split(",")
        if not (name and equals and all(listed)):
            raise ValueError(f"--vary: {word!r} is not of the form NAME=VALUE,VALUE, such as data.pipelines=1,2,4")
        if len(set(listed)) < len(listed):
            raise ValueError(f"--vary: {word!r} has a value twice: leave one out")
        found[name] = listed
    return found


def next_point(points: Sequence[Point], speeds: Mapping[Point, float | None], draw: random.Random) -> Point | None:
    """The point to measure after those in `speeds`, of which those that could not be measured have None; None: all are.

    The start comes first, then a neighbour (one value differs) of the fastest point that has one left, drawn among them.
    """
    left = [point for point in points if point not in speeds]
    if not left or not speeds:
        return points[0] if left else None
    measured = [point for point, speed in speeds.items() if speed is not None]
    for best in sorted(measured, key=speeds.get, reverse=True):
        near = [point for point in left if _distance(best, point) == 1]
        if near:
            return draw.choice(near)
    return draw.choice(left)


def _distance(one: Point, other: Point) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def text(point: Point) -> str:
    """As a row's case has it."""
    return " ".join(f"{name}={value}" for name, value in point)
