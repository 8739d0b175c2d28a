"""Is B slower than A? Ratio and noise of each measurement, from results that are there or from runs of two commits in turns."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from xkd.benchmarks.intervals import FEWEST_PAIRS, Interval, of_pairs, of_runs
from xkd.benchmarks.results import Row, markdown, read_csv
from xkd.benchmarks.revisions import checkout, in_turns, results, run
from xkd.benchmarks.timings import MACHINE, VERSIONS, By, Key, Timing, is_whole, kind, name, newest, timing

THRESHOLD = 1.05
PAIRS = 8
Estimate = Callable[[Sequence[Timing], Sequence[Timing]], Interval]


@dataclass(frozen=True)
class Comparison:
    """One measurement of both: seconds an item of each (the mean of its runs), and what they say."""

    key: Key
    by: By
    whole: bool
    a: float
    b: float
    interval: Interval


def pairwise(a: Sequence[Timing], b: Sequence[Timing]) -> Interval:
    """The estimate where the n-th run of A and the n-th of B came one after the other."""
    return of_pairs([of.seconds for of in a], [of.seconds for of in b])


def in_common(a: Iterable[Row], b: Iterable[Row], by: By | None = None) -> dict[Key, tuple[list[Row], list[Row]]]:
    """The rows of A and of B, each as of its newest commit, of every timed measurement that both have; ValueError for none."""
    before, after = newest(a), newest(b)
    both = {key: (before[key], after[key]) for key in before if key in after}
    timed = {key: sides for key, sides in both.items() if all(kind(row, by) for rows in sides for row in rows)}
    if not timed:
        raise ValueError(
            f"A and B have no timed measurement in common: A has {_few(before)}; B has {_few(after)}: "
            "run the same benchmark with the same options for both"
        )
    return timed


def compare(rows: Mapping[Key, tuple[list[Row], list[Row]]], estimate: Estimate, by: By | None = None) -> Iterator[Comparison]:
    """What the rows of each measurement say."""
    for key, sides in rows.items():
        how = kind(sides[0][0], by)
        timings = [[timing(row, how) for row in side] for side in sides]
        means = [sum(of.seconds for of in side) / len(side) for side in timings]
        yield Comparison(key, how, is_whole(sides[0][0]), *means, estimate(*timings))


def differences(rows: Iterable[tuple[list[Row], list[Row]]], columns: Sequence[str]) -> list[str]:
    """What rows of A and of B have differently in these columns."""
    sides = [list(chain.from_iterable(side)) for side in zip(*rows, strict=True)]
    seen = {column: [sorted({row.get(column, "") for row in side}) for side in sides] for column in columns}
    shown = {column: [" and ".join(value or "none" for value in values) for values in both] for column, both in seen.items()}
    return [f"{column} {before} / {after}" for column, (before, after) in shown.items() if before != after]


def table(found: Sequence[Comparison], threshold: float) -> str:
    """A line for each: milliseconds an item of A and B, ratio, interval, verdict; the most slowed first."""
    lines = [
        {
            "measurement": name(of.key),
            "by": of.by,
            "A, ms": f"{1000 * of.a:.5g}",
            "B, ms": f"{1000 * of.b:.5g}",
            "B / A": f"{of.interval.ratio:.3f}",
            "95 % interval": f"{of.interval.low:.3f} to {of.interval.high:.3f}",
            "verdict": of.interval.verdict(threshold) or "the same, or within noise",
        }
        for of in sorted(found, key=lambda of: -of.interval.ratio)
    ]
    return markdown(lines, columns=tuple(lines[0]))


def slowed(found: Iterable[Comparison], threshold: float, parts: bool) -> list[Comparison]:
    """What counts as slower: whole pieces of work, and with `parts` their parts as well."""
    return [of for of in found if (of.whole or parts) and of.interval.verdict(threshold) == "slower"]


def run_in_turns(a: str, b: str, benchmark: str, pairs: int, folder: Path) -> Iterator[list[Row]]:
    """The rows of A, then those of B, of a benchmark that the code of both has run so many times, taking turns."""
    with ExitStack() as stack:
        trees = {side: stack.enter_context(checkout(source)) for side, source in {"A": a, "B": b}.items()}
        files = {side: folder.resolve() / f"{side}.csv" for side in trees}
        for number, side in enumerate(in_turns(list(trees), pairs)):
            sys.stderr.write(f"{benchmark}: run {number + 1} of {2 * pairs}, {side}\n")
            run(trees[side], benchmark, files[side])
    yield from (read_csv(file) for file in files.values())


def sides(options: argparse.Namespace) -> tuple[list[Row], list[Row], Estimate]:
    """The rows of A and of B, and how to estimate from them."""
    if not options.run:
        return results(options.a), results(options.b), partial(of_runs, run_to_run=options.run_to_run)
    with TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob("[AB].csv")):
            raise ValueError(f"--keep: {folder} holds the runs of another comparison: name another folder")
        a, b = run_in_turns(options.a, options.b, options.run, options.pairs, folder)
        return a, b, pairwise


def _few(rows: Mapping[Key, object]) -> str:
    shown = [name(key) for key in list(rows)[:3]]
    return "; ".join(shown) + (f" and {len(rows) - 3} others" if len(rows) > 3 else "") or "none"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="xkd bench compare", description="Say what is slower in B than in A; exit 1 if anything is."
    )
    source = (
        "a csv file, a folder of them, or a commit, of which the committed results are taken; with --run a commit or a checkout"
    )
    parser.add_argument("a", metavar="A", help=source)
    parser.add_argument("b", metavar="B", help="likewise")
    parser.add_argument("--run", metavar="'NAME OPTIONS'", help="run `xkd bench NAME OPTIONS` with the code of both, in turns")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of such runs, {FEWEST_PAIRS} or more (default %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where A.csv and B.csv of such runs are left (default: nowhere)")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="ratio beyond which B is slower (default %(default)s)")
    parser.add_argument("--by", choices=("cpu", "wall"), help="time to compare (default: wall on GPUs, elsewhere cpu)")
    parser.add_argument("--parts", action="store_true", help="parts of a piece of work count as well")
    parser.add_argument(
        "--run-to-run",
        type=float,
        help="of results that are there: how far runs lie apart, as a standard deviation and a share (default: as measured)",
    )
    parser.add_argument("--other-machine", action="store_true", help="compare though the machines differ")
    options = parser.parse_args(arguments)
    if options.threshold < 1:
        raise ValueError(f"--threshold: {options.threshold:g} is less than 1: give a ratio of times, such as {THRESHOLD}")
    if options.pairs < FEWEST_PAIRS:
        raise ValueError(f"--pairs: {options.pairs} are too few for an interval: give {FEWEST_PAIRS} or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    a, b, estimate = sides(options)
    rows = {key: sides for key, sides in in_common(a, b, options.by).items() if sides[0] != sides[1]}
    if not rows:
        print("A and B hold the same rows: nothing was measured in between")
        return 0
    machines = differences(rows.values(), MACHINE)
    if machines and not options.other_machine:
        raise ValueError(
            f"A and B were measured on different machines ({'; '.join(machines)}): measure both on one, or add --other-machine"
        )
    found = list(compare(rows, estimate, options.by))
    print(table(found, options.threshold), end="")
    print("".join(f"differs: {line}\n" for line in differences(rows.values(), VERSIONS)), end="")
    slower = slowed(found, options.threshold, options.parts)
    print(f"{len(slower)} of {sum(of.whole or options.parts for of in found)} slower beyond {options.threshold:g} and beyond noise")
    return 1 if slower else 0
