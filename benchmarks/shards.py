"""Makes the shards that a benchmark reads when it is given none: AV-Digits clips, converted as any dataset is."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

NUM_FRAMES = 40  # 5 s, more than a default clip lasts


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
