"""The table of tasks: what an evaluation knows of a data set besides its shards."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from xkd.model.config import Modality

YOUTUBE = r"Y?([\w-]{11})(?:_[\d-]+){0,2}"  # the names of sources/youtube.py and of Kinetics


@dataclass(frozen=True)
class Task:
    """A row: a data set, and how its clips are divided into what is learnt from and what is tested on.

    With `folds` both are parts of one conversion (split `all`), else two conversions: `splits` are theirs. `source` matches what
    stands before the digest in a sample's key; its first group names the recording that the clip was cut from, of which a training
    and a test split may not both hold clips. Without it, the whole key does.
    """

    streams: tuple[Modality, ...]
    classes: int | None = None  # None: as many as the shards have
    folds: int = 0
    splits: tuple[str, str] = ("train", "test")
    multi_label: bool = False
    source: str | None = None
    dataset: str | None = None  # `xkd shards write --dataset`; None: the row's name

    @property
    def metric(self) -> Literal["top1", "map"]:
        """What the paper reports: top-1 accuracy, or of several labels a clip the mean over classes of average precision."""
        return "map" if self.multi_label else "top1"

    def recording(self, key: str) -> str:
        """What the clip with this key was cut from."""
        match = re.fullmatch(self.source, key.rpartition("-")[0]) if self.source else None
        return match[1] if match else key


TASKS: Mapping[str, Task] = {
    "kinetics400": Task(("video",), classes=400, splits=("train", "val"), source=YOUTUBE),
    "kinetics_sound": Task(("video", "audio"), classes=32, splits=("train", "val"), source=YOUTUBE),
    "ucf101": Task(("video",), classes=101, folds=3, source=r"(v_\w+_g\d+)_c\d+"),
    "hmdb51": Task(("video",), classes=51, folds=3),
    "esc50": Task(("audio",), classes=50, folds=5, source=r"\d-(\d+)-[A-Z]-\d+"),
    "fsd50k": Task(("audio",), classes=200, splits=("dev", "eval"), multi_label=True, source=r"(\d+)"),
    "audioset": Task(("video", "audio"), classes=527, splits=("train", "eval"), multi_label=True, source=YOUTUBE),
    "vggsound": Task(("video", "audio"), classes=309, source=YOUTUBE),
    "avdigits": Task(("video", "audio"), classes=10, dataset="folder"),
    "folder": Task(("video", "audio")),
}
