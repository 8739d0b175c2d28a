"""The table of layouts: how an encoder's tensors are named and stored."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from xkd.export.timm_layout import timm_tensors
from xkd.model.config import Modality
from xkd.model.vit import Encoder
from xkd.release.files import BACKBONE_SUFFIX, save_encoder
from xkd.release.keys import PREFIXES


@dataclass(frozen=True)
class Layout:
    """`name` maps (modality, backbone) to a file name, `save` writes an encoder there."""

    name: Callable[[Modality, str], str]
    save: Callable[[Encoder, Path], None]


def _save_for_timm(encoder: Encoder, path: Path) -> None:
    path.write_bytes(save({name: tensor.detach().contiguous().clone() for name, tensor in timm_tensors(encoder).items()}))


LAYOUTS = {
    "safetensors": Layout(lambda modality, backbone: f"{modality}.safetensors", save_encoder),
    "release": Layout(lambda modality, backbone: f"{PREFIXES[modality]}_{backbone}{BACKBONE_SUFFIX}", save_encoder),
    "timm": Layout(lambda modality, backbone: f"{modality}_timm.safetensors", _save_for_timm),
}
