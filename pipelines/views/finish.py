"""Turns the graph's outputs into views: colours and normalises pictures, erases, warps, crops and masks spectrograms.

All of it is torch, on the device that the graph's outputs are on, in float32 whatever the caller's autocast. Every row is made from
its own parameters alone.
"""

from collections.abc import Sequence

import numpy as np
import torch

from xkd.pipelines.loading.buffers import Buffers
from xkd.pipelines.views.augment_colour import recolour
from xkd.pipelines.views.augment_erase import erase
from xkd.pipelines.views.augment_spectrogram import change_spectrograms
from xkd.pipelines.views.draws import Parameters
from xkd.pipelines.views.example import ExampleConfig

Views = dict[str, torch.Tensor]


def finish(outputs: Views, after: Sequence[Parameters], config: ExampleConfig, buffers: Buffers) -> Views:
    """Float32 views of a batch by the names of the graph's outputs, from what was drawn for each example.

    Global views [B * V, 3, T, H, W] and [B * C, 1, F, S]: an example's V = clips * crops pictures (those of a clip follow each
    other) or C sounds in a row. Local views [B, L, 3, t, h, w] and [B, L, 1, F, s].
    """
    views = {}
    for name, output in outputs.items():
        count = config.view_counts[name]
        rows = output.reshape(len(after) * count, *output.shape[-(4 if "video" in name else 2) :])
        parameters = gathered(after, [f"{name}{k}" for k in range(count)])
        with torch.autocast(rows.device.type, enabled=False):
            rows = (finish_video if "video" in name else finish_audio)(rows, parameters, buffers)
        views[name] = rows.unflatten(0, (len(after), count)) if "local" in name else rows
    return views


def gathered(after: Sequence[Parameters], views: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """Each parameter's values for these views of all examples, view after view within an example."""
    start = f"{views[0]}."
    fields = [name.removeprefix(start) for name in after[0] if name.startswith(start)]
    return {field: [example[f"{view}.{field}"] for example in after for view in views] for field in fields}


def finish_video(pixels_RTHWC: torch.Tensor, parameters: dict[str, list[np.ndarray]], buffers: Buffers) -> torch.Tensor:
    views_RCTHW = recolour(pixels_RTHWC, np.stack(parameters["colour"]), buffers)
    if "erase_place" in parameters:
        erase(views_RCTHW, parameters["erase_place"], parameters["erase_noise"])
    return views_RCTHW


def finish_audio(spectrograms_RFS: torch.Tensor, parameters: dict[str, list[np.ndarray]], buffers: Buffers) -> torch.Tensor:
    changed_RFS = change_spectrograms(spectrograms_RFS, {name: np.stack(values) for name, values in parameters.items()})
    if changed_RFS is spectrograms_RFS and changed_RFS.is_cuda:
        changed_RFS = changed_RFS.clone()  # on a GPU the graph's memory is lent for a while only (loans.py)
    return changed_RFS.unsqueeze(1)
