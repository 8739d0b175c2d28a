"""Finds the file of a listed clip among the files of a source."""

from collections.abc import Callable, Hashable

from xkd.pipelines.convert.sources.tree import Tree

SHOWN = 3  # clips that are there more than once, in an error
MEDIA_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
        *(".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"),
    )
)


def is_media(name: str) -> bool:
    """Whether a file's suffix is one of audio or video."""
    return f".{name.rpartition('.')[2].lower()}" in MEDIA_SUFFIXES


def stem(name: str) -> str:
    """The last part of a path, without the suffix of the file."""
    basename = name.rpartition("/")[2]
    return basename.rpartition(".")[0] or basename


def folder_and_stem(name: str) -> str:
    """The last two parts of a path, without the suffix of the file."""
    return f"{name.rpartition('/')[0].rpartition('/')[2]}/{stem(name)}"


class Lookup:
    """The media files of a tree by a key made of their paths; it remembers which have been asked for."""

    def __init__(self, tree: Tree, key: Callable[[str], Hashable]):
        self._tree = tree
        self._names: dict[Hashable, list[str]] = {}
        self._unlisted = {name: None for name in tree.files if is_media(name)}
        for name in self._unlisted:
            if name not in tree.dangling:
                self._names.setdefault(key(name), []).append(name)

    def find(self, *keys: Hashable) -> str | None:
        """The file of the first of the keys that has one; where it has two, a ValueError tells of all such clips."""
        for key in keys:
            if found := self._names.get(key):
                if len(found) > 1:
                    raise self._duplicates()
                self._unlisted.pop(found[0], None)
                return found[0]
        return None

    def _duplicates(self) -> ValueError:
        twice = [names for names in self._names.values() if len(names) > 1]
        shown = "; ".join(" and ".join(names) for names in twice[:SHOWN]) + ("; ..." if len(twice) > SHOWN else "")
        number = "1 clip is" if len(twice) == 1 else f"{len(twice)} clips are"
        return ValueError(
            f"{self._tree.root}: {number} there more than once: {shown}; keep one file of each (of clips that replace others:"
            " extract these over the originals)"
        )

    def unlisted(self) -> tuple[str, ...]:
        """The media files that were never found; a link that leads nowhere is one of them."""
        return tuple(self._unlisted)
