"""WebDataset tars: KEY.mp4 (or another media file) is a clip, and KEY.cls or KEY.json beside it in the tar has its label.

A tar belongs to the split that its name starts with (train-000000.tar) or that it lies in (train/000000.tar); where none does, all
are any one split. A .cls holds a class's name or number, a .json an object with "label" or "labels". KEY.txt, a caption, is unused.
"""

import json
import re
from pathlib import Path

from xkd.pipelines.convert.sources.item import Item, Listing, Location
from xkd.pipelines.convert.sources.lookup import is_media
from xkd.pipelines.convert.sources.tree import Tree

SPLITS = ("train", "val", "test")

# The members of a tar by the key of their sample.
_Samples = dict[str, list[Location]]


def is_webdataset(tree: Tree) -> bool:
    """Whether tars hold labels beside clips: then these say the classes, and not folders."""
    return any(
        any(is_media(file.member) for file in files) and _find_labels(files)
        for samples in _tars(tree).values()
        for files in samples.values()
    )


def list_webdataset(tree: Tree, split: str) -> Listing:
    """List a split; an item's name is that of its tar, then its member. ValueError for a clip without a label."""
    tars = _tars(tree)
    splits = {tar: _split_of(tar.relative_to(tree.root)) for tar in tars}
    found = sorted({name for name in splits.values() if name})
    if found and (split not in found or None in splits.values()):
        without = next((f"; {tar} is of none" for tar, name in splits.items() if name is None), "")
        raise ValueError(f"{tree.root}: holds tars of the splits {', '.join(found)}, where {split!r} was asked for{without}")
    items, classes = [], set()
    for tar, samples in tars.items():
        for key, files in samples.items():
            if clips := [file for file in files if is_media(file.member)]:
                labels = _labels(tar, key, clips, files)
                classes.update(labels)
                if not found or splits[tar] == split:
                    items.append(Item(clips[0], f"{tar.relative_to(tree.root).as_posix()}/{clips[0].member}", labels, split))
    loose = tuple(name for name, location in tree.entries if location.member is None and is_media(name))
    return Listing(
        tuple(sorted(classes, key=_in_order)), sorted(items, key=lambda item: item.name), unlisted=loose, has_lists=False
    )


def _tars(tree: Tree) -> dict[Path, _Samples]:
    tars = {}
    for _, location in tree.entries:
        if location.member is not None:
            folder, slash, name = location.member.rpartition("/")
            key = folder + slash + name.partition(".")[0]
            tars.setdefault(location.path, {}).setdefault(key, []).append(location)
    return tars


def _split_of(tar: Path) -> str | None:
    named = [name for name in SPLITS if re.match(rf"{name}[^a-z]", tar.name) or tar.parts[0] == name]
    return named[0] if named else None


def _labels(tar: Path, key: str, clips: list[Location], files: list[Location]) -> tuple[str, ...]:
    if len(clips) > 1:
        names = " and ".join(clip.member for clip in clips)
        raise ValueError(f"{tar}: the sample {key} has {len(clips)} media members, {names}; keep one")
    if labels := _find_labels(files):
        return labels
    raise ValueError(f'{clips[0]}: has no label; expected {key}.cls, or {key}.json with "label" or "labels"')


def _find_labels(files: list[Location]) -> tuple[str, ...]:
    for file in files:
        if file.member.endswith(".cls") and (text := _text(file)):
            return (text,)
    for file in files:
        if file.member.endswith(".json") and (labels := _labels_of_json(file)):
            return labels
    return ()


def _labels_of_json(file: Location) -> tuple[str, ...]:
    try:
        found = json.loads(_text(file))
    except ValueError as error:
        raise ValueError(f"{file}: is not json ({error})") from None
    labels = found.get("labels", found.get("label")) if isinstance(found, dict) else None
    if labels is None:
        return ()
    return tuple(dict.fromkeys(str(label) for label in (labels if isinstance(labels, list) else [labels])))


def _text(file: Location) -> str:
    try:
        return file.read_bytes().decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not text in utf-8") from None


def _in_order(label: str) -> tuple:
    """Numbers as numbers, before names."""
    return (0, int(label), label) if label.isdecimal() else (1, 0, label)
