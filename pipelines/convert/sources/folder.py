"""Class folders of any media: SOURCE/{train,val,test}/CLASS/FILE, or SOURCE/CLASS/FILE as any one split.

With {train,val,test}.txt in SOURCE, these name the files of the splits, one path a line, as CLASS/FILE.
"""

from xkd.pipelines.convert.sources.item import Item, Listing
from xkd.pipelines.convert.sources.lists import read_lines
from xkd.pipelines.convert.sources.lookup import is_media
from xkd.pipelines.convert.sources.tree import Tree
from xkd.pipelines.convert.sources.webdataset import is_webdataset, list_webdataset

SPLITS = ("train", "val", "test")


def list_folder(tree: Tree, split: str) -> Listing:
    """List a split; the classes are those of all splits together. ValueError where the layout is none of those above.

    Every visible file in a class folder is an item: whether it is good media is found out at conversion.
    """
    if is_webdataset(tree):
        return list_webdataset(tree, split)
    if any(f"{name}.txt" in tree.files for name in SPLITS):
        return _list_split_files(tree, split)
    top = sorted({name.partition("/")[0] for name in tree.files if "/" in name})
    found, others = [name for name in top if name in SPLITS], [name for name in top if name not in SPLITS]
    if found and others:
        raise ValueError(f"{tree.root}: has split folders ({', '.join(found)}) beside others ({', '.join(others)}); keep one kind")
    if found and split not in found:
        raise ValueError(f"{tree.root}: has no split {split!r}, only {', '.join(found)}")
    depth = 1 if found else 0  # the part of a path that is the class
    clips = {name: parts for name in tree.files if len(parts := name.split("/")) > depth + 1}
    return Listing(
        classes=tuple(sorted({parts[depth] for parts in clips.values()})),
        items=[
            Item(tree.files[name], name, (parts[depth],), split) for name, parts in clips.items() if not found or parts[0] == split
        ],
        unlisted=tuple(name for name in tree.files if name not in clips and is_media(name)),
        has_lists=False,
    )


def _list_split_files(tree: Tree, split: str) -> Listing:
    if f"{split}.txt" not in tree.files:
        there = ", ".join(f"{name}.txt" for name in SPLITS if f"{name}.txt" in tree.files)
        raise ValueError(f"{tree.root}: has no split file {split}.txt, only {there}")
    splits = {name: _read_split(tree, f"{name}.txt") for name in SPLITS if f"{name}.txt" in tree.files}
    listed = set().union(*splits.values())
    present = [name for name in splits[split] if name in tree.files and name not in tree.dangling]
    return Listing(
        classes=tuple(sorted({_class_of(name) for name in listed})),
        items=[Item(tree.files[name], name, (_class_of(name),), split) for name in present],
        missing=tuple(sorted(set(splits[split]) - set(present))),
        unlisted=tuple(name for name in tree.files if name not in listed and is_media(name)),
    )


def _read_split(tree: Tree, name: str) -> list[str]:
    names = {}
    for number, line in read_lines(tree.files[name]):
        if "/" not in line:
            raise ValueError(f"{tree.files[name]}, line {number}: {line!r} has no class folder; expected CLASS/FILE")
        if line in names:
            raise ValueError(f"{tree.files[name]}, line {number}: {line!r} is listed twice, on line {names[line]} too")
        names[line] = number
    return list(names)


def _class_of(name: str) -> str:
    return name.split("/")[-2]
