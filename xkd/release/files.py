"""Loads and saves the released files: backbones into encoders, whole networks into XKD, and back."""

import os
import pickle
import re
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xkd.model.config import AudioConfig, Modality, VideoConfig
from xkd.model.geometry import by
from xkd.model.tokenizers import Tokenizer
from xkd.model.vit import Encoder, transformer_blocks
from xkd.model.xkd import XKD
from xkd.permissions import usual_permissions
from xkd.release.geometry import encoder_config, modality_of
from xkd.release.keys import BACKBONES, Tensors, backbones_tensors, below, check, encoder_tensors, fill, listed, network_tensors

BACKBONE_SUFFIX = ".pth.tar"
# The views and tokens that the released weights were trained with.
VIEWS: dict[Modality, tuple[int, ...]] = {"video": (3, 32, 112, 112), "audio": (1, 80, 448)}
PATCHES: dict[Modality, tuple[int, ...]] = {"video": VideoConfig().tubelet, "audio": AudioConfig().patch}
FIX_NETWORK = "The configuration (sizes, sharing, cls_token, projector, tokens, views) must be the one that it was trained with."
# What torch and safetensors raise on files that are damaged, or are something else.
UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, RuntimeError, AssertionError, OSError, EOFError),
    *(struct.error, ValueError, LookupError, TypeError, AttributeError),
)


def load_network(xkd: XKD, path: str | Path) -> None:
    """Fills a network from a whole-network file; ValueError, with nothing changed, where the file does not fit it."""
    fill(network_tensors(xkd), read_state(path), str(path), FIX_NETWORK)


def save_network(xkd: XKD, path: str | Path) -> None:
    """Writes a network as a whole-network file (safetensors where the name ends so)."""
    _write(network_tensors(xkd), Path(path))


def load_backbones(xkd: XKD, prefix: str | Path) -> None:
    """Fills the encoders of a network from the four files of a run, PREFIXvid_student.pth.tar and so on, as `load_network`."""
    state = {}
    for name in BACKBONES:
        state |= {f"{name}.backbone.{key}": tensor for key, tensor in read_state(f"{prefix}{name}{BACKBONE_SUFFIX}").items()}
    fill(backbones_tensors(xkd), state, f"{prefix}*{BACKBONE_SUFFIX}", FIX_NETWORK)


def save_backbones(xkd: XKD, prefix: str | Path) -> None:
    """Writes the encoders of a network as the four files of a run."""
    for name, ours in BACKBONES.items():
        save_encoder(getattr(xkd, ours).encoder, f"{prefix}{name}{BACKBONE_SUFFIX}")


def load_encoder(
    path: str | Path,
    *,
    backbone: str | None = None,
    shape: tuple[int, ...] | None = None,
    patch: tuple[int, ...] | None = None,
    heads: int | None = None,
) -> Encoder:
    """The encoder of a backbone file, or of one `backbone` (vid_teacher, ...) of a whole-network file.

    `shape` (3, T, H, W) or (1, mel bands, steps) is the view that the positions were learned for, `patch` the tubelet or patch;
    both default to the released weights'. Without `heads` the network is the named size of its width; with them, the blocks of the
    file are counted. Raises ValueError where the file is no such encoder.
    """
    state, source = read_state(path), str(path)
    if backbone is not None or any(key.split(".")[0] in BACKBONES for key in state):
        state, source = _backbone_of(state, backbone, source), f"{source}: {backbone}"
    modality = modality_of(state, source)
    config = encoder_config(state, heads, source)
    shape, patch = shape or VIEWS[modality], patch or PATCHES[modality]
    for name, given, usual in (("shape", shape, VIEWS[modality]), ("patch", patch, PATCHES[modality])):
        if len(given) != len(usual):
            raise ValueError(f"{name}: {given} has {len(given)} sides; the {name} of {modality} has {len(usual)}, as {usual}")
    with torch.device("meta"):  # a file that does not fit costs no memory, and no initialisation is made to be overwritten
        tokenizer = Tokenizer(shape, patch, config.dim, "cls_token" in state, f"{modality} view")
        encoder = Encoder(tokenizer, transformer_blocks(config), config.dim)
    taken = f"{config.depth} blocks of width {config.dim}, {modality} views of {by(shape[1:])} in tokens of {by(patch)}"
    fix = f"It was taken for {taken}: give shape, patch and heads where they are others, or a whole file."
    check(encoder_tensors(encoder), state, source, fix)
    encoder.to_empty(device="cpu")
    fill(encoder_tensors(encoder), state, source)
    return encoder


def save_encoder(encoder: Encoder, path: str | Path) -> None:
    """Writes an encoder as a backbone file (safetensors where the name ends so)."""
    _write(encoder_tensors(encoder), Path(path))


def read_state(path: str | Path) -> Tensors:
    """The state dict of a torch or a safetensors file; no code in it is run. ValueError where it is anything but named tensors."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file: give a released state dict, or one that xkd.release wrote")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(f"{path}: refused: it names {named[1]}, which could run code: ask for the bare state dict") from None
        reason = str(error).partition(". ")[0]  # torch goes on with the advice to read the file unprotected
        raise ValueError(f"{path}: is damaged, or no file of weights: fetch it again ({type(error).__name__}: {reason})") from None
    strangers = [key for key, value in state.items() if not _is_weight(key, value)] if isinstance(state, dict) else [type(state)]
    if strangers:
        raise ValueError(f"{path}: is no bare state dict, {{name: tensor}}: it holds {listed(strangers)}; save it as one")
    parallel = state and all(key.startswith("module.") for key in state)
    return below(state, "module.") if parallel else dict(state)


def _backbone_of(state: Tensors, backbone: str | None, source: str) -> Tensors:
    if backbone not in BACKBONES:
        raise ValueError(f"{source}: backbone: {backbone!r} is not one of {', '.join(BACKBONES)}, the parts of a whole network")
    part = below(state, f"{backbone}.backbone.")
    if not part:
        raise ValueError(f"{source}: holds no {backbone}.backbone: leave `backbone` out where the file is a single backbone")
    return part


def _is_weight(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized


def _write(tensors: Tensors, path: Path) -> None:
    """Writes copies, which do not carry the storage of a larger tensor with them, under another name until the file is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    copies = {id(tensor): tensor.detach().cpu().clone() for tensor in tensors.values()}
    state = {key: copies[id(tensor)] for key, tensor in tensors.items()}
    temporary = path.with_name(f"{path.name}.tmp")
    if path.suffix == ".safetensors":  # which knows no two names of one tensor
        with usual_permissions(temporary):
            save_file({key: tensor.clone() for key, tensor in state.items()}, temporary)
    else:
        torch.save(state, temporary)
    os.replace(temporary, path)
