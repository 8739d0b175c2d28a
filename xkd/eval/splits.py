"""The parts of a data set that are learnt from and tested on, fold by fold, and the proof that they are apart."""

from dataclasses import dataclass, field

import numpy as np

from xkd.eval.config import DatasetConfig
from xkd.eval.tasks import Task
from xkd.pipelines.config import DataConfig
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.store.opening import open_shards

SHOWN = 5


@dataclass(frozen=True)
class Part:
    """Some samples of a shard set, by their ids [n] in stored order."""

    shards: ShardSet
    ids: np.ndarray

    @property
    def keys(self) -> list[str]:
        padded = self.shards.column("key")[self.ids]
        return [row.tobytes().rstrip(b"\0").decode("ascii") for row in padded]


@dataclass(frozen=True)
class Fold:
    """One way to divide a data set; `number` is None where it has no folds. `leaks` are pairs of clips of one recording."""

    number: int | None
    train: Part
    test: Part
    leaks: list[tuple[str, str]] = field(default_factory=list)


def open_folds(config: DatasetConfig, data: DataConfig) -> list[Fold]:
    """The folds to be evaluated.

    Raises ValueError where shards are missing, are of another data set or form than the table says, or share recordings.
    """
    task = config.task
    if task.folds:
        shards = _open("train", config, data)
        if shards.manifest.num_folds != task.folds:
            raise ValueError(
                f"data.train: {shards.location} has {shards.manifest.num_folds} folds, {config.name} has {task.folds}: convert it"
                f" again with --dataset {config.name} --split all"
            )
        folds = [
            Fold(number, *(Part(shards, shards.fold_ids(number, role)) for role in ("train", "test"))) for number in config.folds
        ]
    else:
        train, test = (_open(split, config, data) for split in ("train", "test"))
        if train.classes != test.classes:
            raise ValueError(
                f"{train.location} has the classes {train.classes}, {test.location} {test.classes}: give two splits of one data set"
            )
        folds = [Fold(None, *(Part(shards, np.arange(len(shards))) for shards in (train, test)))]
    return [_checked(fold, config) for fold in folds]


def _open(split: str, config: DatasetConfig, data: DataConfig) -> ShardSet:
    task, location = config.task, getattr(data, split)
    wanted = task.dataset or config.name
    written = "all" if task.folds else task.splits[split == "test"]
    how = f"xkd shards write SOURCE --dataset {wanted} --split {written} --out DIR"
    if not location:
        raise ValueError(f"data.{split}: no shard folder is given, and the checkpoint names none: set it to what `{how}` writes")
    try:
        shards = open_shards(location, data)
    except ValueError as error:
        raise ValueError(f"data.{split}: {error}") from error
    found, classes = shards.manifest.settings.dataset, config.classes or task.classes
    if config.name != "folder" and found != wanted:
        raise ValueError(f"data.{split}: {location} holds {found}, not {wanted}: set data.{split} to what `{how}` writes")
    if classes not in (None, len(shards.classes)):
        raise ValueError(
            f"data.{split}: {location} has {len(shards.classes)} classes, {config.name} has {classes}: convert all of it, or set"
            f" dataset.classes to {len(shards.classes)} if this part of it is meant"
        )
    if not task.multi_label:
        shards.labels()  # refuses samples without exactly one label
    return shards


def _checked(fold: Fold, config: DatasetConfig) -> Fold:
    for role, part in (("train", fold.train), ("test", fold.test)):
        if not len(part.ids):
            raise ValueError(f"{part.shards.location}: fold {fold.number} has no {role} samples: convert all of {config.name}")
    leaks = find_leaks(fold.train, fold.test, config.task)
    if leaks and config.leaks == "refuse":
        shown = "; ".join(f"{train} and {test}" for train, test in leaks[:SHOWN])
        more = f" and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
        where = f"fold {fold.number} of {fold.train.shards.location}" if fold.number else str(fold.test.shards.location)
        raise ValueError(
            f"{where}: {len(leaks)} test clips are in the training split as well, themselves or as part of one recording (training"
            f" and test clip: {shown}{more}): mend the lists and convert again, or set dataset.leaks to report, which evaluates"
            " them all the same and says so in the results"
        )
    return Fold(fold.number, fold.train, fold.test, leaks)


def find_leaks(train: Part, test: Part, task: Task) -> list[tuple[str, str]]:
    """Each test clip that a training clip shares its recording (by key) or its content (by checksums) with: (training, test)."""
    by_recording = {task.recording(key): key for key in train.keys}
    leaks = {key: by_recording[found] for key in test.keys if (found := task.recording(key)) in by_recording}
    by_content = dict(_contents(train, np.isin(_sizes(train), _sizes(test))))
    for content, key in _contents(test, np.isin(_sizes(test), _sizes(train))):
        if content in by_content:
            leaks.setdefault(key, by_content[content])
    return [(train_key, test_key) for test_key, train_key in leaks.items()]


def _sizes(part: Part) -> np.ndarray:
    """What clips of equal content have in common, cheap to find: bytes and checksum of the video, bytes of the sound."""
    columns = [part.shards.column(name)[part.ids].astype(np.int64) for name in ("video_crc", "video_size", "audio_size")]
    return np.rec.fromarrays(columns)


def _contents(part: Part, chosen: np.ndarray):
    for index in part.ids[chosen].tolist():
        sample = part.shards.sample(index)
        yield (sample.video.crc, sample.video.size, sample.video.frames, sample.audio.crcs), sample.key


def identity(shards: ShardSet) -> dict:
    """What a score rests on: which data set, how much of it, and the checksum of the shards."""
    manifest = shards.manifest
    return {
        "folder": shards.location,
        "name": manifest.name,
        "dataset": manifest.settings.dataset,
        "split": manifest.split,
        "samples": manifest.num_samples,
        "completeness": manifest.completeness.model_dump(),
        "failures": manifest.num_failures,
        "identity": manifest.identity,
        "source_identity": manifest.settings.source_identity,
        "shards_sha256": manifest.shards_sha256,
    }
