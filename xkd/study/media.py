"""The data of a study: AV-Digits clips and their shards, drawn and converted where they are not there yet."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xkd.pipelines.avdigits.write import write_dataset
from xkd.pipelines.convert.write import write_shards
from xkd.study.config import StudyConfig
from xkd.study.plan import shards_of


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file; waits for another process of this machine that does, and outlives none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(study: StudyConfig, name: str, workers: int) -> None:
    """Makes the media of this name and their shards; keeps what is finished.

    Raises ValueError where their folders hold something else, such as those of other settings.
    """
    media, out = study.media[name], study.work_dir / "media" / name
    with locked(study.work_dir / f"media-{name}.lock"):
        write_dataset(out, train=media.train, test=media.test, seed=media.seed, workers=workers, settings=media.clip_settings)
        for split in ("train", "test"):
            write_shards(out, shards_of(study, name, split), split=split, workers=workers)
