"""The table of datasets: each is a small source that lists its items; nothing else knows a dataset's name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from xkd.pipelines.convert.sources.audioset import SPLITS as AUDIOSET_SPLITS
from xkd.pipelines.convert.sources.audioset import list_audioset
from xkd.pipelines.convert.sources.esc50 import list_esc50
from xkd.pipelines.convert.sources.folder import list_folder
from xkd.pipelines.convert.sources.fsd50k import SPLITS as FSD50K_SPLITS
from xkd.pipelines.convert.sources.fsd50k import list_fsd50k
from xkd.pipelines.convert.sources.hmdb51 import list_hmdb51
from xkd.pipelines.convert.sources.item import Listing
from xkd.pipelines.convert.sources.kinetics import KINETICS_SOUND, list_kinetics, list_kinetics_sound
from xkd.pipelines.convert.sources.tree import Tree, read_tree
from xkd.pipelines.convert.sources.ucf101 import list_ucf101
from xkd.pipelines.convert.sources.vggsound import SPLITS as VGGSOUND_SPLITS
from xkd.pipelines.convert.sources.vggsound import list_vggsound


@dataclass(frozen=True)
class Dataset:
    """A row of the table. `official` has the published number of clips of a split, where one is known for certain."""

    list_tree: Callable[[Tree, str], Listing]
    streams: Literal["both", "video", "audio", "video, sound optional"]
    splits: tuple[str, ...] | None = None  # None: whatever the source has
    multi_label: bool = False
    official: Mapping[str, int] = field(default_factory=dict)
    official_classes: int | None = None

    def list(self, source: Path, split: str) -> Listing:
        """List a split of what lies in the folder `source`, or in tars there. ValueError says what is wrong, with file and line.

        It is an error if there is nothing to convert; a clip that is listed and not there is none, but in `Listing.missing`.
        """
        if self.splits is not None and split not in self.splits:
            folds = "; its folds are in the metadata of all clips" if self.splits == ("all",) else ""
            raise ValueError(f"split: {split!r} is not one of {', '.join(self.splits)}{folds}")
        listing = self.list_tree(read_tree(source), split)
        if not listing.items and listing.missing:
            raise ValueError(
                f"{source}: none of the {len(listing.missing)} clips that are listed for split {split!r} is there; the first is"
                f" {listing.missing[0]}, and {len(listing.unlisted)} media files are in no list"
            )
        if not listing.items:
            raise ValueError(f"{source}: split {split!r} holds no files; expected class folders of media files")
        return listing


DATASETS = {
    "kinetics400": Dataset(
        list_kinetics,
        streams="both",
        splits=("train", "val", "test"),
        official={"train": 246_535, "val": 19_907, "test": 39_806},
        official_classes=400,
    ),
    "kinetics_sound": Dataset(
        list_kinetics_sound,
        streams="both",
        splits=("train", "val"),
        official={"train": 22_713, "val": 1_593},
        official_classes=len(KINETICS_SOUND),
    ),
    "audioset": Dataset(list_audioset, streams="both", splits=tuple(AUDIOSET_SPLITS), multi_label=True, official_classes=527),
    "vggsound": Dataset(list_vggsound, streams="both", splits=VGGSOUND_SPLITS, official_classes=309),
    "ucf101": Dataset(
        list_ucf101, streams="video, sound optional", splits=("all",), official={"all": 13_320}, official_classes=101
    ),
    "hmdb51": Dataset(list_hmdb51, streams="video", splits=("all",), official={"all": 6_766}, official_classes=51),
    "esc50": Dataset(list_esc50, streams="audio", splits=("all",), official={"all": 2_000}, official_classes=50),
    "fsd50k": Dataset(
        list_fsd50k,
        streams="audio",
        splits=FSD50K_SPLITS,
        multi_label=True,
        official={"dev": 40_966, "eval": 10_231},
        official_classes=200,
    ),
    "folder": Dataset(list_folder, streams="both"),
}
