"""FSD50K: FSD50K.dev_audio/, FSD50K.eval_audio/, and FSD50K.ground_truth/{dev,eval,vocabulary}.csv, anywhere below SOURCE.

Splits train and val are the parts of dev; dev is both.
"""

from xkd.pipelines.convert.sources.item import Item, Listing
from xkd.pipelines.convert.sources.lists import read_table
from xkd.pipelines.convert.sources.lookup import Lookup, folder_and_stem
from xkd.pipelines.convert.sources.tree import Tree

SPLITS = ("train", "val", "dev", "eval")
# List: its columns.
LISTS = {"dev": ("fname", "labels", "mids", "split"), "eval": ("fname", "labels", "mids")}


def list_fsd50k(tree: Tree, split: str) -> Listing:
    """List a split; an item has all labels of its clip, and the order of the classes is that of the vocabulary."""
    classes = _read_classes(tree)
    tree.only(f"{'eval' if split == 'eval' else 'dev'}.csv", "the clips, in FSD50K.ground_truth/")
    lookup, listed, items, missing = Lookup(tree, folder_and_stem), set(), [], []
    lists = {part: tree.only(f"{part}.csv", "clips") for part in LISTS if tree.named(f"{part}.csv")}
    for part, (_, location) in lists.items():
        for row in read_table(location, LISTS[part], header=True):
            clip, labels = f"FSD50K.{part}_audio/{row['fname']}", row["labels"].split(",")
            if unknown := [label for label in labels if label not in classes]:
                raise row.error(f"the label {unknown[0]!r} is none of the {len(classes)} of vocabulary.csv")
            if part == "dev" and row["split"] not in ("train", "val"):
                raise row.error(f"split is {row['split']!r}; expected train or val")
            if clip in listed:
                raise row.error(f"{row['fname']} is listed twice")
            listed.add(clip)
            name = lookup.find(clip)
            if split in (part, row.values.get("split")):
                if name:
                    items.append(Item(tree.files[name], name, tuple(dict.fromkeys(labels)), split))
                else:
                    missing.append(f"{clip}.wav")
    without_list = {f"FSD50K.{part}_audio" for part in LISTS if part not in lists}
    unlisted = tuple(name for name in lookup.unlisted() if not without_list & set(name.split("/")))
    return Listing(tuple(classes), items, tuple(missing), unlisted)


def _read_classes(tree: Tree) -> dict[str, None]:
    _, location = tree.only("vocabulary.csv", "the classes, in FSD50K.ground_truth/")
    classes = {}
    for row in read_table(location, ("index", "label", "mid"), header=False):
        if row.number("index") != len(classes) or row["label"] in classes:
            raise row.error(f"the class is {row['index']},{row['label']}; expected the index {len(classes)}, and each class once")
        classes[row["label"]] = None
    return classes
