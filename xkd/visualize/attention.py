"""What teachers look at: the last block's attention over each clip, and the weights that refinement makes of it.

Shapes: B clips, N tokens.
"""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from xkd.model.config import Modality
from xkd.model.refinement import token_weights
from xkd.model.vit import Encoder
from xkd.model.xkd import OTHER
from xkd.pipelines.config import DataConfig
from xkd.pipelines.inspect.preview import strip
from xkd.visualize.clips import Clips, coloured, frames, scaled
from xkd.visualize.sheet import Block, sheet

Encoders = Mapping[Modality, Encoder]
COLOURS = "coolwarm"
OCTAVES = Normalize(-2, 2, clip=True)  # a quarter to four times the mean token; beyond, colours change no more
SHADE = 0.35  # of the heat, where the clip is black


def attention(encoders: Encoders, clips: Clips, data: DataConfig, backbone: str, refinement: str) -> Figure:
    """Each clip, the attention that the encoders pay its tokens and, where both are there, the weights after refinement."""
    maps = token_maps(encoders, clips.views, refinement)
    shown = {modality: clip for modality, clip in clips.views.items() if modality in encoders}
    blocks = []
    for index, title in enumerate(clips.titles):
        rows = {"original": {modality: coloured(modality, clip[index], data) for modality, clip in shown.items()}}
        for name, of_modality in maps.items():
            rows[name] = {
                modality: _heated(encoders[modality], clip[index], of_modality[modality][index], data)
                for modality, clip in shown.items()
            }
        blocks.append(Block(title, rows))
    query = "the class token" if next(iter(encoders.values())).tokenizer.num_class else "all tokens, on average,"
    lines = [f"Attention of the {backbone}s: how much {query} of the last block looks at each patch, the mean over heads."]
    if "refined" in maps:
        lines.append(f"Refined: the patches' weights in the feature that teaches the other modality (refinement: {refinement}).")
    lines.append("Colours say how many times the mean of the clip's patches (grey: as much as the mean).")
    return sheet(blocks, "\n".join(lines), foot=_colour_bar)


@torch.inference_mode()
def token_maps(encoders: Encoders, views: Mapping[Modality, Tensor], refinement: str) -> dict[str, dict[Modality, Tensor]]:
    """Attention, the mean over heads, and weights after refinement, [B, N] each, in units of their mean over a clip's tokens.

    Only their ratios mean something: the refined feature is scaled to the energy of the plain mean. Without both modalities there
    is no refinement to show, and with the mode `none` all weights are alike.
    """
    heads = {modality: encoder(views[modality], with_attention=True)[1] for modality, encoder in encoders.items()}
    maps = {"attention": {modality: attention_BHN.mean(1) for modality, attention_BHN in heads.items()}}
    if refinement != "none" and len(heads) == len(OTHER):
        maps["refined"] = {modality: token_weights(heads[modality], heads[other], refinement) for modality, other in OTHER.items()}
    return {
        name: {modality: map_BN / map_BN.mean(-1, keepdim=True) for modality, map_BN in of_modality.items()}
        for name, of_modality in maps.items()
    }


def _colour_bar(place: SubFigure) -> None:
    _, axis, _ = axes = place.subplots(1, 3, width_ratios=[1, 2, 1])
    bar = place.colorbar(ScalarMappable(OCTAVES, COLOURS), cax=axis, orientation="horizontal", ticks=range(-2, 3))
    bar.ax.set_xticklabels(["¼ or less", "½", "1", "2", "4 or more"], fontsize=8)
    axes[0].set_axis_off()
    axes[2].set_axis_off()


def _heated(encoder: Encoder, clip: Tensor, weights_N: Tensor, data: DataConfig) -> np.ndarray:
    """The clip in grey, under the colours of its tokens' weights."""
    tokenizer = encoder.tokenizer
    values = tokenizer.projection.in_features
    spread = tokenizer.unpatchify(weights_N[None, :, None].expand(1, -1, values), like=clip[None])[0].cpu()
    if tokenizer.modality == "video":
        heat, gray = spread.permute(1, 2, 3, 0).numpy()[..., 0], frames(clip, data).mean(-1)
        return strip(_colours(heat) * (SHADE + (1 - SHADE) * gray)[..., None])
    return _colours(spread[0].flip(0).numpy()) * (SHADE + (1 - SHADE) * scaled(clip, clip))[..., None]


def _colours(heat: np.ndarray) -> np.ndarray:
    return colormaps[COLOURS](OCTAVES(np.log2(np.maximum(heat, 1e-6))))[..., :3]
