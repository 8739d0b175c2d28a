"""Class folders of media files: SOURCE/{train,val,test}/CLASS/FILE, or SOURCE/CLASS/FILE as any one split."""

from collections.abc import Iterator
from pathlib import Path

from xkd.pipelines.convert.sources.item import Item, Listing

SPLITS = ("train", "val", "test")


def list_folder(root: Path, split: str) -> Listing:
    """List a split; the classes are the folder names of all splits together. ValueError where the layout is not one of the two."""
    folders = _folders(root)
    found = [folder.name for folder in folders if folder.name in SPLITS]
    others = [folder.name for folder in folders if folder.name not in SPLITS]
    if not found:
        return Listing(_class_names([root]), list(_items(root, root, split)))
    if others:
        raise ValueError(f"{root}: has split folders ({', '.join(found)}) beside others ({', '.join(others)}); keep one kind")
    if split not in found:
        raise ValueError(f"{root}: has no split {split!r}, only {', '.join(found)}")
    return Listing(_class_names(folders), list(_items(root, root / split, split)))


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _class_names(parents: list[Path]) -> tuple[str, ...]:
    return tuple(sorted({folder.name for parent in parents for folder in _folders(parent)}))


def _items(root: Path, parent: Path, split: str) -> Iterator[Item]:
    """Every file below the class folders, hidden ones left out; whether it is good media is found out at conversion."""
    for folder in _folders(parent):
        for path in sorted(folder.rglob("*")):
            if not path.is_dir() and not path.name.startswith("."):
                yield Item(path, path.relative_to(root).as_posix(), (folder.name,), split)
