"""UCF101: UCF-101/CLASS/v_CLASS_gNN_cNN.avi; ucfTrainTestlist/classInd.txt, trainlist0{1,2,3}.txt and testlist0{1,2,3}.txt.

Where they lie below SOURCE does not matter. The lists and the files differ in the case of HandstandPushups, so case does not count.
"""

from xkd.pipelines.convert.sources.item import Item, Listing
from xkd.pipelines.convert.sources.lists import read_lines
from xkd.pipelines.convert.sources.lookup import Lookup, stem
from xkd.pipelines.convert.sources.tree import Tree

FOLDS = (1, 2, 3)


def list_ucf101(tree: Tree, split: str) -> Listing:
    """List all clips, with their roles in the three folds; the order of the classes is that of classInd.txt."""
    classes = _read_classes(tree)
    by_folded_name = {name.casefold(): name for name in classes}
    clips: dict[str, tuple[str, str, dict[int, str]]] = {}  # by the stem without case: the name in the lists, the class, the roles
    for fold in FOLDS:
        for role in ("train", "test"):
            _, location = tree.only(f"{role}list{fold:02d}.txt", f"the {role} clips of fold {fold}")
            for number, line in read_lines(location):
                where = f"{location}, line {number}"
                name, _, index = line.partition(" ")
                label = by_folded_name.get(name.partition("/")[0].casefold())
                if label is None or "/" not in name:
                    raise ValueError(f"{where}: {line!r} is of no class of classInd.txt; expected CLASS/FILE.avi")
                if role == "train" and index.strip() != str(classes.index(label) + 1):
                    raise ValueError(f"{where}: the class of {line!r} is {classes.index(label) + 1} in classInd.txt")
                _, _, roles = clips.setdefault(stem(name).casefold(), (name, label, {}))
                if fold in roles:
                    raise ValueError(f"{where}: {name} is listed twice in fold {fold}, and is {roles[fold]} there already")
                roles[fold] = role
    lookup, items, missing = Lookup(tree, lambda name: stem(name).casefold()), [], []
    for clip, (listed_name, label, roles) in clips.items():
        if name := lookup.find(clip):
            items.append(Item(tree.files[name], name, (label,), split, tuple(roles.get(fold, "unused") for fold in FOLDS)))
        else:
            missing.append(listed_name)
    return Listing(classes, items, tuple(missing), lookup.unlisted(), num_folds=len(FOLDS))


def _read_classes(tree: Tree) -> tuple[str, ...]:
    _, location = tree.only("classInd.txt", "the classes")
    classes: list[str] = []
    for number, line in read_lines(location):
        index, _, name = line.partition(" ")
        if index != str(len(classes) + 1) or not name or name in classes:
            raise ValueError(f"{location}, line {number}: {line!r}; expected `{len(classes) + 1} CLASS`, each class once")
        classes.append(name)
    return tuple(classes)
