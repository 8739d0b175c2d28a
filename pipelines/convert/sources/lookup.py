"""Finds the file of a listed clip among the files of a source."""

from collections.abc import Callable, Hashable

from xkd.pipelines.convert.sources.tree import Tree

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
        """The file of the first of the keys that has one; ValueError where it has two."""
        for key in keys:
            if found := self._names.get(key):
                if len(found) > 1:
                    raise ValueError(
                        f"{self._tree.root}: the clip {key} is there {len(found)} times, as {' and as '.join(found)}; keep one"
                    )
                self._unlisted.pop(found[0], None)
                return found[0]
        return None

    def unlisted(self) -> tuple[str, ...]:
        """The media files that were never found; a link that leads nowhere is one of them."""
        return tuple(self._unlisted)
