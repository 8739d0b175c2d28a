"""The names under which people keep clips of YouTube videos (AudioSet, VGGSound), for which no official files exist.

A clip that has been cut already, in the order of search (S and E are its begin and end in seconds):
ID_{S:06d}, ID_S, ID_S_E, ID_{S:06d}_{E:06d}, ID_S.000_E.000, and ID_S_E in milliseconds.
Last ID alone: this may be the whole video, so it comes with the time range.
Each may have a Y in front, which keeps a name from beginning with a hyphen. The suffix is any of audio or video.
"""

from collections.abc import Iterator

from xkd.pipelines.convert.sources.item import Item
from xkd.pipelines.convert.sources.lookup import Lookup
from xkd.pipelines.convert.sources.tree import Tree


def find_clip(
    tree: Tree, lookup: Lookup, video: str, time_range: tuple[float, float], labels: tuple[str, ...], split: str
) -> Item | None:
    """The item of a clip of a video; None if it is not there."""
    for suffix in _suffixes(*time_range):
        if name := lookup.find(f"{video}_{suffix}", f"Y{video}_{suffix}"):
            return Item(tree.files[name], name, labels, split)
    if name := lookup.find(video, f"Y{video}"):
        return Item(tree.files[name], name, labels, split, time_range=time_range)
    return None


def _suffixes(start: float, end: float) -> Iterator[str]:
    first, last = int(start), int(end)
    yield f"{first:06d}"
    yield f"{first}"
    yield f"{start:g}_{end:g}"
    yield f"{first}_{last}"
    yield f"{first:06d}_{last:06d}"
    yield f"{start:.3f}_{end:.3f}"
    yield f"{round(start * 1000)}_{round(end * 1000)}"
