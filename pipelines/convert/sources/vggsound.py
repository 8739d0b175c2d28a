"""VGGSound: vggsound.csv (id,start,"label, with commas",split; no header), and its ten-second clips of YouTube videos.

The clips lie anywhere below SOURCE, under one of the names of sources/youtube.py; usual is {id}_{start:06d}.mp4.
"""

from xkd.pipelines.convert.sources.item import Listing
from xkd.pipelines.convert.sources.lists import read_table
from xkd.pipelines.convert.sources.lookup import Lookup, stem
from xkd.pipelines.convert.sources.tree import Tree
from xkd.pipelines.convert.sources.youtube import find_clip

SPLITS = ("train", "test")
CLIP_SECONDS = 10


def list_vggsound(tree: Tree, split: str) -> Listing:
    """List a split; the classes are those of the whole list."""
    _, location = tree.only("vggsound.csv", "the clips")
    lookup, listed, classes, items, missing = Lookup(tree, stem), {}, set(), [], []
    for row in read_table(location, ("id", "start", "label", "split"), header=False):
        start = row.number("start")
        clip = f"{row['id']}_{start:06d}"
        if row["split"] not in SPLITS:
            raise row.error(f"split is {row['split']!r}; expected {', '.join(SPLITS)}")
        if not row["label"]:
            raise row.error("the label is empty")
        if clip in listed:
            raise row.error(f"the clip {clip} is listed twice, on line {listed[clip]} too")
        listed[clip] = row.line
        classes.add(row["label"])
        item = find_clip(tree, lookup, row["id"], (float(start), float(start + CLIP_SECONDS)), (row["label"],), split)
        if row["split"] == split:
            if item is None:
                missing.append(f"{clip}.mp4")
            else:
                items.append(item)
    return Listing(tuple(sorted(classes)), items, tuple(missing), lookup.unlisted())
