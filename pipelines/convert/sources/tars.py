"""Lists the files that a tar would hold had it been extracted where it lies; they are read in place.

A link is a file too. What a symbolic link in a tar leads to is looked for in the tar, then on disk.
"""

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from xkd.pipelines.convert.sources.item import Location

MAX_LINKS = 40  # followed for one path, as in Linux; beyond they go in circles


def read_tar(path: Path) -> Iterator[tuple[str, Location]]:
    """The visible files of a tar, by their paths in it; a link that leads nowhere has a Location through the tar, which cannot be.

    ValueError for a tar that is not whole, cannot be read, or has sparse members or links to folders outside.
    """
    files: dict[str, Location] = {}  # hidden ones too, for links may lead to them
    links: dict[str, str] = {}  # what symbolic links say
    folders: list[str] = []
    for member in _members(path):
        name = PurePosixPath(member.name).as_posix()
        target = PurePosixPath(member.linkname).as_posix() if member.islnk() else None
        if member.issym() or target in links:
            links[name] = links[target] if target else member.linkname
            continue
        if member.isdir():
            folders.append(name)
            continue
        if member.isreg() and member.sparse is None:
            files[name] = Location(path, member.name, member.offset_data, member.size)
        elif target:
            files[name] = _named(files.get(target) or _outside(path, name, target), member.name)
        elif member.isreg() and _is_visible(name):
            raise ValueError(f"{path}: its member {member.name} is sparse; write the tar without --sparse, or extract it")
        if name in files and _is_visible(name):
            yield name, files[name]
    if links:
        yield from _linked(path, files, links, folders)


def _linked(
    path: Path, files: Mapping[str, Location], links: Mapping[str, str], folders: Iterable[str]
) -> Iterator[tuple[str, Location]]:
    """What the visible symbolic links lead to: files, and folders with all that is below, but not in circles."""
    children: dict[str, dict[str, None]] = {folder: {} for folder in folders}
    for name in (*files, *links, *folders):
        for child in (PurePosixPath(name), *PurePosixPath(name).parents[:-1]):
            children.setdefault(child.parent.as_posix(), {})[child.name] = None

    def below(shown: str, above: frozenset[str], place: str | None) -> Iterator[tuple[str, Location]]:
        if place in files:
            yield shown, _named(files[place], shown)
        elif place in children and place not in above:
            for name in children[place]:
                if not name.startswith("."):
                    yield from below(f"{shown}/{name}", above | {place}, _follow(f"{place}/{name}", links))
        elif place not in children:
            yield shown, _outside(path, shown, place)

    for name in filter(_is_visible, links):
        yield from below(name, frozenset(parent.as_posix() for parent in PurePosixPath(name).parents), _follow(name, links))


def _follow(name: str, links: Mapping[str, str]) -> str | None:
    """Where a path leads past all links, from the folder of the tar on; None where it goes in circles."""
    here, rest, followed = PurePosixPath(), [*reversed(PurePosixPath(name).parts)], 0
    while rest:
        part = rest.pop()
        here = here.parent if part == ".." and here.name not in ("", "..") else here / part
        if target := links.get(here.as_posix()):
            here, followed = here.parent, followed + 1
            rest += reversed(PurePosixPath(target).parts)
            if followed > MAX_LINKS:
                return None
    return here.as_posix()


def _outside(path: Path, name: str, place: str | None) -> Location:
    """What a link leads to that does not lead into its tar."""
    target = path.parent / (place or name)
    if os.path.isdir(target):
        raise ValueError(f"{path}: its link {name} leads to a folder outside of it, {target}; extract it, or remove the link")
    return Location(target if os.path.exists(target) else path / name)


def _named(location: Location, member: str) -> Location:
    """The same bytes as a member of another name; a file on disk keeps its own."""
    return location if location.member is None else replace(location, member=member)


def _is_visible(name: str) -> bool:
    return not any(part.startswith(".") for part in PurePosixPath(name).parts)


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                tar.members = []  # else it keeps all of them
                yield member
            _check_end(path, tar.offset)
    except tarfile.TarError as error:
        raise ValueError(f"{path}: is not a whole, uncompressed tar ({error}); fetch or write it again, or move it away") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def _check_end(path: Path, offset: int) -> None:
    """Reading stops in silence at a damaged header, and at the end of the first of concatenated tars."""
    with path.open("rb") as file:
        file.seek(offset)
        rest = file.read(tarfile.RECORDSIZE + tarfile.BLOCKSIZE)
    if len(rest) < tarfile.BLOCKSIZE or any(rest[: tarfile.BLOCKSIZE]):
        raise tarfile.ReadError(f"at byte {offset} there is neither a member nor the mark of the end")
    if any(rest):
        raise tarfile.ReadError(f"more follows after its end at byte {offset}, as in concatenated tars")
