"""HMDB51: CLASS/NAME.avi, and for each class {class}_test_split{1,2,3}.txt with lines `NAME.avi 1` (1 train, 2 test, 0 unused).

Where they lie below SOURCE does not matter.
"""

import re

from xkd.pipelines.convert.sources.item import Item, Listing
from xkd.pipelines.convert.sources.lists import read_lines
from xkd.pipelines.convert.sources.lookup import Lookup, folder_and_stem
from xkd.pipelines.convert.sources.tree import Tree

FOLDS = (1, 2, 3)
ROLES = {"1": "train", "2": "test", "0": "unused"}
_LIST = re.compile(r"(.+)_test_split([123])\.txt")


def list_hmdb51(tree: Tree, split: str) -> Listing:
    """List all clips, with their roles in the three folds; the classes are those that have lists."""
    lists = {}
    for path in tree.files:
        if found := _LIST.fullmatch(path.rpartition("/")[2]):
            if (place := (found[1], int(found[2]))) in lists:
                raise ValueError(f"{tree.root}: {path} is the second list of its name, beside {lists[place]}; keep one")
            lists[place] = path
    classes = tuple(sorted({label for label, _ in lists}))
    if not classes:
        raise ValueError(f"{tree.root}: holds no CLASS_test_split1.txt (the folds); expected three for each class, anywhere below")
    lookup, items, missing = Lookup(tree, folder_and_stem), [], []
    for label in classes:
        if absent := [f"{label}_test_split{fold}.txt" for fold in FOLDS if (label, fold) not in lists]:
            raise ValueError(f"{tree.root}: holds no {', '.join(absent)}; expected three lists for each class")
        folds = [_read_list(tree, lists[label, fold]) for fold in FOLDS]
        for clip in dict.fromkeys(clip for fold in folds for clip in fold):
            if name := lookup.find(folder_and_stem(f"{label}/{clip}")):
                items.append(Item(tree.files[name], name, (label,), split, tuple(fold.get(clip, "unused") for fold in folds)))
            else:
                missing.append(f"{label}/{clip}")
    return Listing(classes, items, tuple(missing), lookup.unlisted(), num_folds=len(FOLDS))


def _read_list(tree: Tree, path: str) -> dict[str, str]:
    roles = {}
    for number, line in read_lines(tree.files[path]):
        name, _, role = line.rpartition(" ")
        name = name.strip()
        if role not in ROLES or not name:
            raise ValueError(
                f"{tree.files[path]}, line {number}: {line!r}; expected NAME.avi and 1 (train), 2 (test) or 0 (unused)"
            )
        if name in roles:
            raise ValueError(f"{tree.files[path]}, line {number}: {name} is listed twice")
        roles[name] = ROLES[role]
    return roles
