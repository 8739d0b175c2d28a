"""Kinetics-400, and Kinetics-Sound, which is 32 of its classes.

Lists: {train,val,test}.csv with label,youtube_id,time_start,time_end,split(,is_cc), anywhere below SOURCE. Clips: files
{id}_{start:06d}_{end:06d}.mp4, anywhere. Without lists, class folders (sources/folder.py) are taken as they are. Classes are
written with underscores, whether a list or a folder has these or blanks.
"""

import re
from dataclasses import replace
from functools import partial

from xkd.pipelines.convert.sources.folder import list_folder
from xkd.pipelines.convert.sources.item import Item, Listing, Location
from xkd.pipelines.convert.sources.lists import Row, read_table
from xkd.pipelines.convert.sources.lookup import Lookup, stem
from xkd.pipelines.convert.sources.tree import Tree

SPLITS = ("train", "val", "test")
COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_INSTRUMENTS = (
    *("accordion", "bagpipes", "bass_guitar", "clarinet", "drums", "guitar", "harmonica", "keyboard", "organ", "piano"),
    *("saxophone", "trombone", "trumpet", "violin", "xylophone"),
)
KINETICS_SOUND = (
    *("blowing_nose", "blowing_out_candles", "bowling", "chopping_wood", "dribbling_basketball", "laughing", "mowing_lawn"),
    *(f"playing_{instrument}" for instrument in _INSTRUMENTS),
    *("ripping_paper", "shoveling_snow", "shuffling_cards", "singing", "stomping_grapes", "strumming_guitar", "tap_dancing"),
    *("tapping_guitar", "tapping_pen", "tickling"),
)
# The lists are known by the end of their names: train.csv, kinetics400_val.csv, validate.csv.
_LIST = re.compile(r"(?:.*[_-])?(train|val|validate|test)")
_SPLIT_NAMES = {"train": "train", "val": "val", "validate": "val", "test": "test"}


def list_kinetics(tree: Tree, split: str, classes: tuple[str, ...] | None = None) -> Listing:
    """List a split, of these classes only if they are given."""
    csvs = [name for name in tree.files if name.lower().endswith(".csv")]
    lists = [name for name in csvs if _LIST.fullmatch(stem(name))]
    if csvs and not lists:
        raise ValueError(f"{tree.root}: none of its csv files ({', '.join(csvs)}) is named train.csv, val.csv or test.csv")
    if not lists:
        return _list_class_folders(tree, split, classes)
    rows: dict[str, tuple[str, str]] = {}  # the label and the split of a clip
    for name in lists:
        _read_list(tree.files[name], rows)
    listed_splits = {row_split for _, row_split in rows.values()}
    if split not in listed_splits:
        raise ValueError(
            f"{tree.root}: no clip of {', '.join(lists)} is of split {split!r}, only of {', '.join(sorted(listed_splits))}"
        )
    lookup, items, missing = Lookup(tree, stem), [], []
    for clip, (label, row_split) in rows.items():
        name = lookup.find(clip)
        if row_split == split and (classes is None or label in classes):
            if name is None:
                missing.append(f"{clip}.mp4")
            else:
                items.append(Item(tree.files[name], name, (label,), split))
    unlisted_splits = set(SPLITS) - listed_splits
    unlisted = tuple(name for name in lookup.unlisted() if not unlisted_splits & set(name.split("/")[:-1]))
    return Listing(classes or tuple(sorted({label for label, _ in rows.values()})), items, tuple(missing), unlisted)


list_kinetics_sound = partial(list_kinetics, classes=KINETICS_SOUND)


def _read_list(location: Location, rows: dict[str, tuple[str, str]]) -> None:
    for row in read_table(location, COLUMNS, header=True):
        clip, split = _clip(row), _SPLIT_NAMES.get(row["split"])
        if split is None:
            raise row.error(f"split is {row['split']!r}; expected {', '.join(SPLITS)}")
        if not row["label"] or not row["youtube_id"]:
            raise row.error("label or youtube_id is empty")
        if clip in rows:
            raise row.error(f"the clip {clip} is listed twice; remove one of the two lines")
        rows[clip] = (_class_name(row["label"]), split)


def _clip(row: Row) -> str:
    return f"{row['youtube_id']}_{row.number('time_start'):06d}_{row.number('time_end'):06d}"


def _list_class_folders(tree: Tree, split: str, classes: tuple[str, ...] | None) -> Listing:
    listing = list_folder(tree, split)
    items = [replace(item, labels=tuple(_class_name(label) for label in item.labels)) for item in listing.items]
    if classes is None:
        return replace(listing, items=items, classes=tuple(sorted({_class_name(label) for label in listing.classes})))
    return replace(listing, items=[item for item in items if item.labels[0] in classes], classes=classes)


def _class_name(label: str) -> str:
    return label.replace(" ", "_")
