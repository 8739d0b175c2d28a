"""Who is faster: this project beside each peer that did the same work in the same run, losses too."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xkd.benchmarks.intervals import Interval, of_runs
from xkd.benchmarks.results import Row
from xkd.benchmarks.timings import By, Key, is_whole, kind, newest, timing

# Providers that are this project's, the first that a run has; all others of the same work are its peers. Benchmarks that are not
# listed measure nobody else.
OURS = {
    "convert": ("convert",),
    "decode": ("dali-gpu", "dali-cpu"),
    "kernels": ("fused", "eager"),
    "loader": ("xkd",),
    "model": ("xkd",),
    "scale": ("zero 1",),
    "step": ("deepspeed",),
}
OF_A_STAGE = ": "  # in the name of a provider that does less than ours: `decode: pyav`
OURS_APART = {"convert": ("stages", "decode")}  # providers that show what ours is made of


@dataclass(frozen=True)
class Standing:
    """A provider's newest row, its milliseconds an item, and its time over ours: above 1, ours is faster."""

    key: Key
    row: Row
    by: By
    milliseconds: float
    beside_ours: Interval | None

    @property
    def verdict(self) -> str:
        """Of a peer: `behind`, or `ahead`, which is a loss of ours, or `even` where noise covers the difference."""
        found = self.beside_ours
        if found is None:
            return ""
        return "behind" if found.low > 1 else "ahead" if found.high < 1 else "even"


def work(of: Key) -> Key:
    """A measurement without who did it."""
    return tuple((column, value) for column, value in of if column != "provider")


def standings(rows: Iterable[Row]) -> Iterator[Standing]:
    """Of every whole piece of work the newest row of each provider, beside ours where it has peers, in the order of the rows.

    Rows of one run are compared: providers take turns there, so that what is left of noise is that of the rounds.
    """
    last = {of: found[-1] for of, found in newest(rows).items() if is_whole(found[-1])}
    for of, row in last.items():
        by = kind(row, None)
        if by is None:
            continue
        ours = _ours(of, row, last)
        beside = of_runs([timing(ours, by)], [timing(row, by)], run_to_run=0.0) if ours and timing(ours, by) else None
        yield Standing(of, row, by, 1000 * timing(row, by).seconds, beside)


def not_measured(rows: Iterable[Row]) -> list[Row]:
    """The newest rows without a number, which say why."""
    return [found[-1] for found in newest(rows).values() if found[-1].get("not_measured")]


def _ours(of: Key, row: Row, last: dict[Key, Row]) -> Row | None:
    """The row of ours that another provider's row is held against."""
    names = OURS.get(row.get("benchmark", ""), ())
    if row.get("provider") in (*names, *OURS_APART.get(row.get("benchmark", ""), ())) or OF_A_STAGE in row.get("provider", ""):
        return None
    same = {
        other.get("provider", ""): other
        for found, other in last.items()
        if work(found) == work(of) and other.get("date") == row.get("date") and not other.get("not_measured")
    }
    return next((same[name] for name in names if name in same), None)
