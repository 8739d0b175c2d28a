"""The views of a step's clips, as `xkd replay` draws them."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Batch
from xkd.visualize.clips import MODALITIES, coloured
from xkd.visualize.sheet import Block, sheet


def step_sheet(batch: Batch, hidden: Mapping[str, Tensor], titles: Sequence[str], rows: Sequence[int], data: DataConfig) -> Figure:
    """The views of these rows of a batch, each with its title: global ones, what of them the students see, local ones."""
    return sheet([Block(titles[row], _views(batch, hidden, row, data)) for row in rows])


def _views(batch: Batch, hidden: Mapping[str, Tensor], row: int, data: DataConfig) -> dict[str, dict]:
    """The pictures of one row, by the name of the view."""
    shown = {}
    for modality in MODALITIES:
        whole, local = (getattr(batch, f"{modality}_{kind}") for kind in ("global", "local"))
        views = {"global": whole[row], "seen": whole[row].masked_fill(hidden[modality][row], torch.nan)}
        views |= {f"local {number}": view for number, view in enumerate(local[row] if local is not None else (), 1)}
        for name, view in views.items():
            shown.setdefault(name, {})[modality] = coloured(modality, view, data, like=whole[row])
    return shown
