"""Whether results come out again: the ratios to each peer in the last two runs of the same commit."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xkd.benchmarks.results import Row, markdown
from xkd.benchmarks.standings import Standing, standings


@dataclass(frozen=True)
class Repeat:
    """A peer's time over ours in all of its work, in a run and in the next one of the same commit."""

    benchmark: str
    peer: str
    first: Sequence[Standing]
    second: Sequence[Standing]

    @property
    def apart(self) -> float:
        """How far the second mean ratio lies from the first, as a share."""
        return math.exp(abs(math.log(mean_ratio(self.second) / mean_ratio(self.first)))) - 1

    @property
    def noise(self) -> float:
        """How far, as a share, 95 of 100 repeated means should lie from the first, by what the rounds of both runs show."""
        widths = [math.log(of.beside_ours.high / of.beside_ours.low) / 2 for of in (*self.first, *self.second)]
        return math.exp(math.hypot(*widths) / len(self.first)) - 1

    @property
    def load(self) -> str:
        """The machine's, before each run."""
        return " and ".join(f"{max(float(of.row['load']) for of in run):.1f}" for run in (self.first, self.second))


def mean_ratio(run: Sequence[Standing]) -> float:
    """The geometric mean."""
    return float(np.exp(np.mean([math.log(of.beside_ours.ratio) for of in run])))


def repeats(rows: Iterable[Row]) -> Iterator[Repeat]:
    """Of each peer the last two runs of the work that was done twice by the same commit."""
    runs, found, peers = {}, {}, {}
    for row in rows:
        runs.setdefault((row["date"], row["command"]), []).append(row)
    for run in runs.values():
        for of in standings(run):
            if of.beside_ours:
                found.setdefault(of.key, []).append(of)
    for own in found.values():
        if len(own) > 1 and own[-2].row["commit"] == own[-1].row["commit"]:
            peers.setdefault((own[-1].row["benchmark"], own[-1].row["provider"]), []).append(own[-2:])
    for (benchmark, peer), pairs in peers.items():
        yield Repeat(benchmark, peer, *zip(*pairs, strict=True))


def table(found: Iterable[Repeat]) -> str:
    lines = [
        {
            "benchmark": each.benchmark,
            "peer": each.peer,
            "pieces of work": len(each.first),
            "first run": f"{mean_ratio(each.first):.3f}",
            "second run": f"{mean_ratio(each.second):.3f}",
            "apart": f"{each.apart:.1%}",
            "noise": f"{each.noise:.1%}",
            "load": each.load,
        }
        for each in found
    ]
    return markdown(lines, tuple(lines[0])) if lines else ""
