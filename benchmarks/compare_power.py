"""How often `xkd bench compare` finds a slowdown that was planted, and how often one where none was.

Every run is a process of its own that decodes clips; a planted one decodes more of them and says nothing of it. A comparison is
made as `--run` makes it, of runs that take turns, and the planted shares take turns as well, so that all meet the machine in the
same moods. What results of different times would say is told from the same runs: the first of A of one comparison beside the first
of B of another.
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from xkd.benchmarks.compare import PAIRS, THRESHOLD, pairwise
from xkd.benchmarks.gpu_media import MediaSet, write
from xkd.benchmarks.harness import Round, measure
from xkd.benchmarks.intervals import Interval, of_runs
from xkd.benchmarks.results import Recorder, Row, append_csv, as_text, markdown, read_csv
from xkd.benchmarks.revisions import in_turns
from xkd.benchmarks.timings import RUN_TO_RUN, By, Timing, mood, timing

MODULE = "xkd.benchmarks.compare_power"
RESULTS = Path("benchmarks/results/compare_power.csv")
CODEC, SHORT_SIDE = "mjpeg", 128
CLIPS, ROUNDS = 20, 3  # of a run; a planted 5 % is one clip more
PLANTED = (0, 5, 10, 20)  # per cent
REPEATS = 20
THRESHOLDS = (1.02, THRESHOLD, 1.1)
KINDS: tuple[By, ...] = ("cpu", "wall")
MEASURED = tuple(f"{side}_{by}_{what}" for side in "ab" for by in KINDS for what in ("ms", "error"))
ORIGIN = ("date", "cpu", "cpus", "load", "python", "av", "numpy", "commit", "command")
COLUMNS = ("repeat", "planted_percent", *MEASURED, *ORIGIN)


@contextmanager
def setup(media: Path, more: int, provider: str) -> Iterator[Round]:
    """PyAV decoding so many clips more than it says."""
    import av

    videos = MediaSet.open(media).videos(CODEC, SHORT_SIDE)

    def run_round(lap) -> int:
        for number in range(CLIPS + more):
            with av.open(io.BytesIO(videos[number % len(videos)].tobytes())) as container:
                container.streams.video[0].codec_context.thread_count = 1
                for frame in container.decode(video=0):
                    frame.to_ndarray(format="rgb24")
        return CLIPS

    yield run_round


def one_run(media: Path, planted: int) -> Row:
    """Measures once, in this process."""
    (found,) = measure(partial(setup, media, CLIPS * planted // 100), ["pyav"], rounds=ROUNDS, warmup=1)
    return as_text(asdict(found))


def runs(media: Path, planted: int) -> dict[str, str]:
    """The columns MEASURED of A against B, with so much planted in B: a number for each run, in order."""
    rows = {side: [] for side in "ab"}
    for side in in_turns(list(rows), PAIRS):
        words = ["--media", str(media), "--one-run", str(planted if side == "b" else 0)]
        rows[side].append(json.loads(subprocess.check_output([sys.executable, "-m", MODULE, *words])))
    found = {(side, by): [timing(row, by) for row in own] for side, own in rows.items() for by in KINDS}
    columns = {}
    for (side, by), timings in found.items():
        columns[f"{side}_{by}_ms"] = " ".join(f"{1000 * of.seconds:.5g}" for of in timings)
        columns[f"{side}_{by}_error"] = " ".join(f"{of.error:.3g}" for of in timings)
    return columns


def timings(row: Row, side: str, by: By) -> list[Timing]:
    """The runs of a side of a comparison, as `runs` wrote them."""
    values = zip(*(row[f"{side}_{by}_{what}"].split() for what in ("ms", "error")), strict=True)
    return [Timing(float(ms) / 1000, float(error), RUN_TO_RUN[mood(row)][by]) for ms, error in values]


def in_turns_intervals(rows: Sequence[Row], by: By) -> list[Interval]:
    """What `compare --run` says of each comparison."""
    return [pairwise(timings(row, "a", by), timings(row, "b", by)) for row in rows]


def apart_intervals(rows: Sequence[Row], by: By) -> list[Interval]:
    """What `compare` says of one run of each, B's from the comparison half of all later (or earlier)."""
    later = [*rows[len(rows) // 2 :], *rows[: len(rows) // 2]]
    firsts = [(timings(a, "a", by)[:1], timings(b, "b", by)[:1]) for a, b in zip(rows, later, strict=True)]
    return [of_runs(*both) for both in firsts]


METHODS = {f"{PAIRS} runs each, in turns": in_turns_intervals, "one run each, apart": apart_intervals}


def rates(rows: Sequence[Row]) -> Iterator[dict[str, str]]:
    """A line for each method, kind of time and threshold: how often B was called slower, by what was planted."""
    planted = {share: [row for row in rows if int(row["planted_percent"]) == share] for share in PLANTED}
    for method, intervals in METHODS.items():
        for by in KINDS:
            found = {share: intervals(own, by) for share, own in planted.items()}
            widths = [of.high / of.ratio - 1 for own in found.values() for of in own]
            for threshold in THRESHOLDS:
                slower = {share: sum(of.verdict(threshold) == "slower" for of in own) for share, own in found.items()}
                counts = {f"+{share} %" if share else "nothing": f"{slower[share]} of {len(found[share])}" for share in PLANTED}
                yield {"runs": method, "by": by, "threshold": f"{threshold:g}", **counts, "noise": f"{np.median(widths):+.1%}"}


def run_to_run(rows: Sequence[Row], by: By) -> float:
    """Standard deviation of A's first runs' logarithm over the comparisons."""
    return float(np.std(np.log([timings(row, "a", by)[0].seconds for row in rows]), ddof=1))


def table(rows: Sequence[Row]) -> str:
    lines = list(rates(rows))
    return markdown(lines, columns=tuple(lines[0]))


def study(repeats: Iterable[int], csv: Path, recorder: Recorder) -> None:
    """Makes every comparison so often; rows are written as they come, and those that the file has are not made again."""
    made = {(row["repeat"], row["planted_percent"]) for row in read_csv(csv)} if csv.exists() else set()
    with TemporaryDirectory() as folder:
        media = write(Path(folder), clips=4, sizes=(SHORT_SIDE,), codecs=(CODEC,)).folder
        for repeat in repeats:
            shares = random.Random(repeat).sample(PLANTED, len(PLANTED))
            for planted in (share for share in shares if (str(repeat), str(share)) not in made):
                row = {**recorder.origin, "load": os.getloadavg()[0], "repeat": repeat, "planted_percent": planted}
                row |= runs(media, planted)
                append_csv(csv, [as_text({name: row[name] for name in COLUMNS})], COLUMNS)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS, help="comparisons of each planted share (default %(default)s)")
    parser.add_argument("--csv", type=Path, default=RESULTS, help="file to append rows to (default %(default)s)")
    parser.add_argument("--one-run", type=int, metavar="PER CENT", help=argparse.SUPPRESS)
    parser.add_argument("--media", type=Path, help=argparse.SUPPRESS)
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(arguments)
    if options.one_run is not None:
        print(json.dumps(one_run(options.media, options.one_run)))
        return 0
    recorder = Recorder.start("compare_power", ["python", "-m", MODULE, *arguments])
    study(range(options.repeats), options.csv, recorder)
    rows = read_csv(options.csv)
    print(table(rows), end="")
    print(", ".join(f"{by} {run_to_run(rows, by):.1%}" for by in KINDS), "standard deviation from run to run, of the same code")
    return 0


if __name__ == "__main__":
    sys.exit(main())
