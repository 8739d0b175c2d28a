"""Seconds from the launcher's start to the end of the first training step, with a small shard set and with a large one."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from xkd.benchmarks import command
from xkd.benchmarks.convert import Work, write_source
from xkd.benchmarks.harness import TOTAL
from xkd.benchmarks.launched import run_to_its_end
from xkd.benchmarks.linked_shards import repeat_shard
from xkd.benchmarks.random_shards import CLASSES, write_samples
from xkd.benchmarks.results import Row, as_text, percentiles
from xkd.pipelines.convert.sample import convert

SHARD_SAMPLES = 1000
CLIPS = (1_000, 250_000)
SHOWN = ("clips", "part", "rounds", "wall_p20_s", "wall_p50_s", "wall_p80_s")
ONE_STEP = ("train.max_steps=1", "train.log_every=1", "log.tensorboard=false")
# The files of a run that mark, when they are written, the end of a part of the start.
MARKS = {
    "interpreter, imports, ranks": "environment.json",
    "shards, network, engine": "config.yaml",
    "first step": "metrics.jsonl",
}


def write_shard(folder: Path) -> Path:
    """A shard set of one shard, whose samples are the same clip under other names; returns it."""
    with tempfile.TemporaryDirectory() as made:
        work = Work(write_source(Path(made) / "clip.mp4"))
        clip = convert(work.item, work.profile)
    samples = (replace(clip, key=f"clip-{number:06d}", labels=CLASSES) for number in range(SHARD_SAMPLES))
    return write_samples(folder, samples, num_samples=SHARD_SAMPLES, shard_samples=SHARD_SAMPLES)


def start(config: str, shards: Path, overrides: Sequence[str], ranks: int) -> dict[str, float]:
    """Starts a run through the deepspeed launcher and waits for its end, which comes after one step.

    Returns the seconds of each part and of all. Raises RuntimeError, with what the run wrote, where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir, began = Path(folder) / "run", time.time()
        run_to_its_end(config, (f"data.train={shards}", "data.test=null", *ONE_STEP, *overrides), run_dir, ranks=ranks)
        marks = [began, *((run_dir / name).stat().st_mtime for name in MARKS.values())]
    return {TOTAL: marks[-1] - began} | {part: end - begin for part, (begin, end) in zip(MARKS, pairwise(marks), strict=True)}


@contextmanager
def shard_sets(sizes: Iterable[int]) -> Iterator[dict[int, Path]]:
    """Shard sets of so many clips, by their number."""
    with tempfile.TemporaryDirectory() as folder:
        shard = write_shard(Path(folder) / "one")
        yield {clips: repeat_shard(shard, Path(folder) / f"clips-{clips}", clips) for clips in sizes}


def rows(shared: Mapping[str, object], found: Sequence[dict[str, float]]) -> Iterator[Row]:
    """A row for each part: percentiles of its seconds over the rounds."""
    for part in found[0]:
        yield as_text({**shared, "part": part, "rounds": len(found), **percentiles([one[part] for one in found])})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("startup", "Start runs through the deepspeed launcher and time what comes before a step.", rounds=3)
    parser.add_argument("--config", default="pretrain/demo.yaml", help="configuration to train (default %(default)s)")
    parser.add_argument("--ranks", type=int, default=2, help="(default %(default)s)")
    parser.add_argument("--clips", type=int, nargs="+", default=CLIPS, help=f"multiples of {SHARD_SAMPLES} (default: 1000 250000)")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the configuration")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    if any(clips < 1 or clips % SHARD_SAMPLES for clips in options.clips):
        raise ValueError(f"--clips: {options.clips} are not all multiples of {SHARD_SAMPLES}, the clips of a shard")
    recorder = command.recorder("startup", arguments)
    run = partial(start, options.config, overrides=options.overrides, ranks=options.ranks)
    with shard_sets(options.clips) as sets:
        run(sets[options.clips[0]])  # brings the libraries into the page cache
        found = {clips: [] for clips in sets}
        for _ in range(options.rounds):
            for clips, shards in sets.items():
                found[clips].append(run(shards))
    case = {"case": options.config, "ranks": options.ranks}
    written = [row | recorder.origin for clips, times in found.items() for row in rows(case | {"clips": clips}, times)]
    command.finish(written, options.csv, columns=tuple(written[0]), shown=SHOWN)
    return 0
