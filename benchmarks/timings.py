"""What rows of results say of time: which measurement a row is of, and what an item took."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from xkd.benchmarks.results import Row

By = Literal["cpu", "wall"]
# Columns that say what was measured; a file has some of them.
IDENTITY = (
    *("benchmark", "op", "case", "set", "samples", "global_batch", "setting", "batch", "dtype", "ranks", "clips"),
    *("provider", "part"),
)
MACHINE = ("cpu", "cpus", "gpu")
VERSIONS = ("python", "torch", "dali", "deepspeed", "av", "triton", "numpy")
# The 20th, 50th and 80th percentile of a round, and how many seconds their unit has. Few files have those of CPU time.
PERCENTILES = {
    "wall": (("wall_p20_s", "wall_p50_s", "wall_p80_s", 1.0), ("p20_us", "p50_us", "p80_us", 1e-6)),
    "cpu": (("cpu_p20_s", "cpu_s", "cpu_p80_s", 1.0),),
}
# How far runs of the same code at different times lie apart beyond what their rounds show: the standard deviation of their
# logarithm, on a calm machine and on one with more to do than it has CPUs for, as compare_power has measured it.
RUN_TO_RUN = {"calm": {"cpu": 0.03, "wall": 0.03}, "busy": {"cpu": 0.1, "wall": 0.4}}
WHOLE = ("", "total", "both")  # parts that are all of the work
FROM_20_TO_80 = 2 * 0.8416  # of a normal distribution, in standard deviations
OF_A_MEDIAN = math.sqrt(math.pi / 2)  # its standard error, as a multiple of a mean's

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Timing:
    """What one run took: seconds an item, and the standard error of their logarithm.

    `error` is what the rounds of the run show, `drift` what comes on top where another run was at another time.
    """

    seconds: float
    error: float
    drift: float


def key(row: Row) -> Key:
    """What tells a measurement from the others of all files. What was not measured would have been all of the work."""
    row = row | {"part": "total"} if row.get("not_measured") and not row.get("part") else row
    return tuple((column, row[column]) for column in IDENTITY if row.get(column))


def is_whole(row: Row) -> bool:
    """Whether a row is of all of the work, not of a part."""
    return row.get("part", "") in WHOLE


def on_gpu(row: Row) -> bool:
    return bool(row.get("gpu"))


def mood(row: Row) -> str:
    """`calm` where the machine had a CPU left for the benchmark when it began; `busy` where not, or where no row tells."""
    load, cpus = row.get("load"), row.get("cpus")
    return "calm" if load and cpus and float(load) + 1 <= float(cpus) else "busy"


def timing(row: Row, by: By) -> Timing | None:
    """The row's time; None where it has none of that kind.

    A file that has no percentiles of CPU time gets the spread of wall time, which is seldom smaller.
    """
    items, drift = float(row.get("items") or 1), RUN_TO_RUN[mood(row)][by]
    for *names, unit in PERCENTILES[by]:
        p20, p50, p80 = (float(row.get(name) or 0) for name in names)
        if p50 > 0:
            if by == "cpu" and not p20:
                wall = timing(row, "wall")
                return Timing(p50 / items, wall.error if wall else 0.0, drift)
            spread = math.log(p80 / p20) / FROM_20_TO_80
            return Timing(unit * p50 / items, OF_A_MEDIAN * spread / math.sqrt(float(row["rounds"])), drift)
    return None


def kind(row: Row, by: By | None) -> By | None:
    """How a row is timed: as asked; if nothing was asked by wall time on a GPU, elsewhere by CPU time, which others disturb less.

    None where it holds no such time.
    """
    wanted = (by,) if by else ("wall",) if on_gpu(row) else ("cpu", "wall")
    return next((name for name in wanted if timing(row, name)), None)


def newest(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    """Of each measurement the rows of its newest commit, in the order of the file: as many as it was run there."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        of = found.setdefault(key(row), [])
        if of and of[-1].get("commit") != row.get("commit"):
            of.clear()
        of.append(row)
    return found


def name(of: Key, without: Iterable[str] = ()) -> str:
    """A measurement in words."""
    left_out = {"part", *without} if ("part", "total") in of else set(without)
    return ", ".join(value for column, value in of if column not in left_out)
