"""A sheet of clips: a block for each, in it a row for each way to look at it, video on the left and sound on the right."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from xkd.model.config import Modality
from xkd.pipelines.inspect.preview import STRIP_FRAMES

WIDTHS: dict[Modality, float] = {"video": STRIP_FRAMES, "audio": 2.2}
ROW_INCHES, TITLE_INCHES, FOOT_INCHES = 0.95, 0.25, 0.4


class Block(NamedTuple):
    """One clip; each of its rows has pictures [H, W, 3] in 0..1 by modality."""

    title: str
    rows: Mapping[str, Mapping[Modality, np.ndarray]]


def sheet(blocks: Sequence[Block], title: str = "", foot: Callable[[SubFigure], None] | None = None) -> Figure:
    """The blocks below each other, and below them what `foot` draws. A modality that no row has takes no place."""
    shown = [name for name in WIDTHS if any(name in row for block in blocks for row in block.rows.values())]
    heights = [TITLE_INCHES + ROW_INCHES * len(block.rows) for block in blocks] + [FOOT_INCHES] * bool(foot)
    figure = Figure(figsize=(10.5, sum(heights) + TITLE_INCHES * len(title.splitlines())), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    if foot:
        foot(parts[-1])
    for block, part in zip(blocks, parts, strict=False):
        axes = part.subplots(len(block.rows), len(shown), squeeze=False, width_ratios=[WIDTHS[name] for name in shown])
        for line, (name, pictures) in zip(axes, block.rows.items(), strict=True):
            line[0].text(-0.01, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9)
            for axis, modality in zip(line, shown, strict=True):
                axis.set_axis_off()
                if modality in pictures:
                    axis.imshow(pictures[modality], aspect="equal" if modality == "video" else "auto")
        part.suptitle(block.title, fontsize=8, parse_math=False)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """What a figure looks like, uint8 [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
