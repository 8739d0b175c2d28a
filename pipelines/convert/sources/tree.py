"""The files of a source: those in its folder, and those in the tars found there, which are read in place.

A tar counts as what would be there had it been extracted where it lies; so a dataset in tars is listed like the same dataset in
folders, and costs no inodes.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from xkd.pipelines.convert.sources.item import Location
from xkd.pipelines.convert.sources.tars import read_tar

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


@dataclass(frozen=True)
class Tree:
    """The visible files below `root`, as (path with slashes, location) in order of the paths."""

    root: Path
    entries: tuple[tuple[str, Location], ...]
    dangling: frozenset[str] = field(default=frozenset())  # links that lead nowhere

    @cached_property
    def files(self) -> Mapping[str, Location]:
        """Location by path; ValueError where a path is there twice, in two tars or in a tar and beside it."""
        files = dict(self.entries)
        if len(files) < len(self.entries):
            seen = {}
            for name, location in self.entries:
                if name in seen:
                    raise ValueError(f"{self.root}: {name} is there twice, as {seen[name]} and as {location}; remove one of them")
                seen[name] = location
        return files

    def named(self, *basenames: str) -> list[str]:
        """The paths whose last part is one of these."""
        return [name for name in self.files if name.rpartition("/")[2] in basenames]

    def only(self, basename: str, what: str) -> tuple[str, Location]:
        """The one file of this name, wherever it lies; ValueError if there is none or more than one."""
        found = self.named(basename)
        if not found:
            raise ValueError(f"{self.root}: holds no {basename} ({what}); expected it in the folder or below")
        if len(found) > 1:
            raise ValueError(f"{self.root}: holds {len(found)} files named {basename} ({', '.join(found)}); keep one")
        return found[0], self.files[found[0]]


def read_tree(root: Path) -> Tree:
    """List a folder with its tars. ValueError for a folder or a tar that cannot be read, and for a compressed tar."""
    if not os.path.isdir(root):
        raise ValueError(f"{root}: no such folder; SOURCE is the folder that holds the dataset, or tars of it")
    entries, dangling = [], set()
    for path in _walk(root, frozenset()):
        name = path.relative_to(root).as_posix()
        if name.lower().endswith(COMPRESSED):
            raise ValueError(
                f"{path}: is compressed, so its members cannot be read in place; make it a plain .tar (such as with"
                f" `gunzip`), extract it, or move it out of the folder"
            )
        if name.lower().endswith(".tar"):
            found = [(_join(name, member), location) for member, location in read_tar(path)]
            entries += found
            links = [(member, location.path) for member, location in found if location.member is None]
        else:
            entries.append((name, Location(path)))
            links = [(name, path)] if os.path.islink(path) else []
        dangling.update(link for link, target in links if not os.path.exists(target))
    return Tree(root, tuple(sorted(entries, key=lambda entry: entry[0])), frozenset(dangling))


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Every visible file below a folder, through links to folders too, but not in circles."""
    here = folder.resolve()
    if here in above:
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed: {error.strerror}") from None
    for entry in entries:
        if _is_folder(entry):
            yield from _walk(folder / entry.name, above | {here})
        else:
            yield folder / entry.name


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether it is one, or leads to one; a link in circles or through a file does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _join(tar: str, member: str) -> str:
    folder = tar.rpartition("/")[0]
    return f"{folder}/{member}" if folder else member
