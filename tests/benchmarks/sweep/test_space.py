import random

import pytest

from xkd.benchmarks.sweep.space import next_point, parse_axes, points_of, text

AXES = {"a": ["1", "2", "3"], "b": ["x", "y"], "c": ["0", "1", "2", "3"], "d": ["0", "1", "2", "3"]}
BEST = (("a", "3"), ("b", "y"), ("c", "3"), ("d", "3"))


def speed(point):
    """Best at BEST; every step towards it is faster."""
    a, b, c, d = (value for _, value in point)
    return int(a) + 2 * (b == "y") + 0.5 * int(c) + 0.3 * int(d)


def order(seed, limit=None):
    points, speeds, draw = points_of(AXES), {}, random.Random(seed)
    while len(speeds) != limit and (point := next_point(points, speeds, draw)) is not None:
        speeds[point] = speed(point)
    return speeds


@pytest.mark.parametrize("seed", range(5))
def test_every_point_comes_once_from_the_start_on_and_a_seed_repeats_its_order(seed):
    speeds = order(seed)
    assert sorted(speeds) == sorted(points_of(AXES))
    assert text(next(iter(speeds))) == "a=1 b=x c=0 d=0"
    assert list(order(seed)) == list(speeds)


def test_the_best_is_found_sooner_than_by_chance():
    places = [list(order(seed)).index(BEST) for seed in range(40)]
    assert sum(places) / len(places) < (len(points_of(AXES)) - 1) / 2 / 3


def test_points_that_cannot_be_measured_stop_nothing():
    points = points_of(AXES)
    speeds = dict.fromkeys(points[:5])
    while (point := next_point(points, speeds, random.Random(0))) is not None:
        speeds[point] = None
    assert len(speeds) == len(points)


def test_axes_are_read_and_other_forms_refused():
    assert parse_axes(["data.pipelines=1,2", "codec=vp9"]) == {"data.pipelines": ["1", "2"], "codec": ["vp9"]}
    for word in ("data.pipelines", "=1", "a=", "a=1,,2", "a=1,1"):
        with pytest.raises(ValueError, match="--vary"):
            parse_axes([word])
