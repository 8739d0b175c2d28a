"""ESC-50: audio/{fold}-{clip}-{take}-{target}.wav and meta/esc50.csv, anywhere below SOURCE."""

from xkd.pipelines.convert.sources.item import Item, Listing
from xkd.pipelines.convert.sources.lists import read_table
from xkd.pipelines.convert.sources.lookup import Lookup, stem
from xkd.pipelines.convert.sources.tree import Tree

FOLDS = (1, 2, 3, 4, 5)
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def list_esc50(tree: Tree, split: str) -> Listing:
    """List all clips; in fold k those of fold k are test, the others train. The order of the classes is that of their targets."""
    _, location = tree.only("esc50.csv", "the clips, in meta/")
    targets, listed, items, missing = {}, set(), [], []
    lookup = Lookup(tree, stem)
    for row in read_table(location, COLUMNS, header=True):
        clip, fold, target = row["filename"], row.number("fold"), row.number("target")
        if fold not in FOLDS:
            raise row.error(f"fold is {fold}; expected 1 to {len(FOLDS)}")
        if targets.setdefault(target, row["category"]) != row["category"]:
            raise row.error(f"target {target} is {row['category']!r} here and {targets[target]!r} above")
        if clip in listed:
            raise row.error(f"{clip} is listed twice")
        listed.add(clip)
        if name := lookup.find(stem(clip)):
            roles = tuple("test" if fold == k else "train" for k in FOLDS)
            items.append(Item(tree.files[name], name, (row["category"],), split, roles))
        else:
            missing.append(clip)
    classes = tuple(targets[target] for target in sorted(targets))
    if len(set(classes)) < len(classes):
        raise ValueError(f"{location}: two targets have one category; expected one target for each")
    return Listing(classes, items, tuple(missing), lookup.unlisted(), num_folds=len(FOLDS))
