"""Masked reconstruction of clips, drawn so that what the net was given can be told from what is its own."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from xkd.model.xkd import XKD, Modality
from xkd.pipelines.config import DataConfig
from xkd.visualize.clips import Clips, coloured
from xkd.visualize.sheet import Block, sheet


def reconstructions(net: XKD, clips: Clips, data: DataConfig) -> Figure:
    """Each clip, what of it the student sees, and what it makes of that."""
    rows = {modality: reconstruction_rows(net, modality, clip) for modality, clip in clips.views.items()}
    names = list(dict.fromkeys(name for of_modality in rows.values() for name in of_modality))
    return sheet(
        [
            Block(
                title,
                {
                    name: {
                        modality: coloured(modality, of_modality[name][index], data, like=of_modality["original"][index])
                        for modality, of_modality in rows.items()
                    }
                    for name in names
                },
            )
            for index, title in enumerate(clips.titles)
        ],
        reconstruction_title(net),
    )


@torch.inference_mode()
def reconstruction_rows(net: XKD, modality: Modality, clip: Tensor) -> dict[str, Tensor]:
    """What to show of the masked reconstruction of clips, each row shaped like `clip`; NaN where nothing is to be seen.

    With `norm_pix_loss` the net predicts a patch up to its mean and deviation, which the picture takes from the original (see
    autoencoder.reconstruct); the row "patch means" shows how much of the picture that alone gives away.
    """
    pictures = net.reconstruct(clip, modality)
    rows = {"original": pictures.original, "input": pictures.original.masked_fill(pictures.mask, torch.nan)}
    if net.loss_config.norm_pix_loss:
        rows["patch means"] = torch.where(pictures.mask, net.patch_means(clip, modality), pictures.original)
    return {**rows, "reconstruction": pictures.reconstruction}


def reconstruction_title(net: XKD) -> str:
    """Says what is hidden, and what the pictures are given."""
    hidden = f"{net.model_config.video.mask_ratio:.0%} of the video and {net.model_config.audio.mask_ratio:.0%} of the audio tokens"
    title = f"Masked reconstruction: the net sees the row 'input'; {hidden} are hidden (grey)."
    if net.loss_config.norm_pix_loss:
        title += (
            "\nIt predicts hidden patches up to brightness and contrast, which are taken from the original:\n"
            "only what 'reconstruction' shows beyond 'patch means' is the net's own."
        )
    return title
