"""Makes the shards that a benchmark reads when it is given none: converted, as any dataset is, from clips that are made."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

NUM_FRAMES = 40  # 5 s, more than a default clip lasts
DIFFERENT_CLIPS = 4  # of the others; encoding one takes seconds
SHARD_SAMPLES = 16


@contextmanager
def given_or_made(folder: Path | None, clips: int) -> Iterator[Path]:
    """The shard folder given, or one of that many AV-Digits clips of 5 s, kept as long as the context is open."""
    if folder:
        yield folder
        return
    from xkd.pipelines.avdigits.settings import RECIPE
    from xkd.pipelines.avdigits.write import write_dataset
    from xkd.pipelines.convert.write import write_shards

    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as made:
        source, shards = Path(made) / "source", Path(made) / "shards"
        write_dataset(source, train=clips, test=0, seed=0, workers=workers, settings=replace(RECIPE, num_frames=NUM_FRAMES))
        write_shards(source, shards, split="train", workers=workers)
        yield shards


@contextmanager
def given_or_natural(folder: Path | None, clips: int, codec: str) -> Iterator[Path]:
    """The shard folder given, or one of that many clips of 10 s like downloaded ones (some the same, each stored for itself)."""
    if folder:
        yield folder
        return
    from xkd.pipelines.convert.write import write_shards

    with tempfile.TemporaryDirectory() as made:
        source, shards = Path(made) / "source", Path(made) / "shards"
        write_sources(source / "clips", clips)
        write_shards(source, shards, split="train", codec=codec, shard_samples=SHARD_SAMPLES)
        yield shards


def write_sources(folder: Path, clips: int, different: int = DIFFERENT_CLIPS) -> None:
    """So many downloaded clips in a new folder, of which the first few are `different` and the others links to them."""
    from xkd.benchmarks.convert import write_source

    folder.mkdir(parents=True)
    files = [folder / f"{number:05d}.mp4" for number in range(clips)]
    for number, file in enumerate(files):
        if number < different:
            write_source(file, number)
        else:
            os.link(files[number % different], file)
