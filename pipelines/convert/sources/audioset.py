"""AudioSet: {balanced_train,unbalanced_train,eval}_segments.csv and class_labels_indices.csv, anywhere below SOURCE.

The clips lie anywhere too, under one of the names of sources/youtube.py. Split `train` is both parts of train together.
"""

import re
from collections.abc import Iterator, Mapping

from xkd.pipelines.convert.sources.item import Listing, Location
from xkd.pipelines.convert.sources.lists import read_comments, read_table
from xkd.pipelines.convert.sources.lookup import Lookup, stem
from xkd.pipelines.convert.sources.tree import Tree
from xkd.pipelines.convert.sources.youtube import find_clip

PARTS = ("balanced_train", "unbalanced_train", "eval")
COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
SPLITS = {"train": ("balanced_train", "unbalanced_train"), **{part: (part,) for part in PARTS}}


def list_audioset(tree: Tree, split: str) -> Listing:
    """List a split; an item has all labels of its segment. The lists themselves say how many segments they have."""
    classes = _read_classes(tree)
    for part in SPLITS[split]:
        tree.only(f"{part}_segments.csv", f"the segments of {part}")
    lookup, listed, items, missing, counts = Lookup(tree, stem), set(), [], [], []
    for part in PARTS:
        for name in tree.named(f"{part}_segments.csv"):
            wanted = part in SPLITS[split]
            counts.append(_stated_count(tree.files[name]) if wanted else 0)
            for video, time_range, labels, clip in _read_segments(tree.files[name], classes, listed):
                item = find_clip(tree, lookup, video, time_range, labels, split)
                if wanted and item:
                    items.append(item)
                elif wanted:
                    missing.append(clip)
    official = None if None in counts else sum(counts)
    return Listing(tuple(classes.values()), items, tuple(missing), lookup.unlisted(), official=official)


def _read_classes(tree: Tree) -> dict[str, str]:
    """Display name by mid, in the order of their indices."""
    _, location = tree.only("class_labels_indices.csv", "the classes")
    names = {}
    for row in read_table(location, ("index", "mid", "display_name"), header=True):
        if row.number("index") != len(names):
            raise row.error(f"index is {row['index']}; expected {len(names)}: the indices go up by one from 0")
        if row["mid"] in names or row["display_name"] in names.values():
            raise row.error(f"the class {row['mid']} {row['display_name']!r} is listed twice")
        names[row["mid"]] = row["display_name"]
    return names


def _read_segments(
    location: Location, classes: Mapping[str, str], listed: set[str]
) -> Iterator[tuple[str, tuple[float, float], tuple[str, ...], str]]:
    """The video, the time range, the labels and the name of each segment, which is added to `listed`."""
    for row in read_table(location, COLUMNS, header=False, comment="#"):
        start, end = row.number("start_seconds", float), row.number("end_seconds", float)
        clip = f"{row['YTID']}_{start:g}_{end:g}"
        if clip in listed:
            raise row.error(f"the segment {clip} is listed already, here or in another list")
        listed.add(clip)
        mids = row["positive_labels"].split(",")
        if unknown := [mid for mid in mids if mid not in classes]:
            raise row.error(f"the label {unknown[0]!r} is none of the {len(classes)} of class_labels_indices.csv")
        yield row["YTID"], (start, end), tuple(dict.fromkeys(classes[mid] for mid in mids)), clip


def _stated_count(location: Location) -> int | None:
    """The number of segments that the comments at the begin of a list state, as `num_segs=22160`."""
    stated = re.search(r"\bnum_segs=(\d+)", " ".join(read_comments(location, "#")))
    return int(stated[1]) if stated else None
