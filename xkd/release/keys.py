"""The names that the XKD authors' released files have for the tensors of this network, and filling a network by them.

A table {released key: tensor} holds the network's own parameters, not copies: read it to write a file, write to it to load one. A
tensor that the release stores under several names stands under each of them.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from xkd.model.autoencoder import Decoder
from xkd.model.config import Modality
from xkd.model.projector import Projector
from xkd.model.vit import Encoder
from xkd.model.xkd import OTHER, XKD

Tensors = dict[str, Tensor]

PREFIXES: dict[Modality, str] = {"video": "vid", "audio": "aud"}
EMBEDDINGS: dict[Modality, str] = {"video": "cuboid_embed", "audio": "patch_embed"}
CENTERS: dict[Modality, str] = {"video": "vt2as_ce_loss.center", "audio": "at2vs_ce_loss.center"}  # by the teacher's modality
BACKBONES = {  # released name: ours
    f"{prefix}_{role}": f"{modality}_{role}" for modality, prefix in PREFIXES.items() for role in ("student", "teacher")
}
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def encoder_tensors(encoder: Encoder) -> Tensors:
    """The tensors of one backbone file."""
    tokenizer = encoder.tokenizer
    return {
        **({} if tokenizer.cls_token is None else {"cls_token": tokenizer.cls_token}),
        "enc_pos_embed": tokenizer.positions,
        **_of(tokenizer.projection, f"{EMBEDDINGS[tokenizer.modality]}.proj."),
        **_of(encoder.blocks, "encoder.blocks."),
        **_of(encoder.norm, "encoder_norm."),
    }


def head_tensors(head: Projector) -> Tensors:
    """The tensors of a head: linear layers, norms and activations are numbered in one row, so a shared norm has several names."""
    tensors = {}
    for index, layer in enumerate(head.layers):
        tensors |= _of(layer, f"mlp.{3 * index}.")
        if layer is not head.layers[-1]:
            tensors |= _of(head.norms[index % len(head.norms)], f"mlp.{3 * index + 1}.")
    return {**tensors, "last_layer.weight_g": head.gains, "last_layer.weight_v": head.directions}


def autoencoder_tensors(encoder: Encoder, decoder: Decoder) -> Tensors:
    """The tensors of a masked autoencoder."""
    return {
        "dec_pos_embed": decoder.positions,
        "mask_token": decoder.mask_token,
        **_of(decoder.embedding, "mid_proj."),
        **_of(decoder.blocks, "decoder.blocks."),
        **_of(decoder.prediction, "out_proj."),
        **_under("encoder.", encoder_tensors(encoder)),
    }


def backbones_tensors(xkd: XKD) -> Tensors:
    """The tensors of the four backbones, under the names that they have in the whole network."""
    tensors = {}
    for released, ours in BACKBONES.items():
        tensors |= _under(f"{released}.backbone.", encoder_tensors(getattr(xkd, ours).encoder))
    return tensors


def network_tensors(xkd: XKD) -> Tensors:
    """The tensors of the whole network; centres are views [1, K]."""
    tensors = backbones_tensors(xkd)
    for released, ours in BACKBONES.items():
        tensors |= _under(f"{released}.head.", head_tensors(getattr(xkd, ours).head))
    for modality in OTHER:
        student, teacher = getattr(xkd, f"{modality}_student"), getattr(xkd, f"{modality}_teacher")
        autoencoder = autoencoder_tensors(student.encoder, student.decoder)
        tensors |= {**_under(f"{PREFIXES[modality]}_ae.", autoencoder), CENTERS[modality]: teacher.center[None]}
    return tensors


def check(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str, fix: str) -> None:
    """Raises one ValueError with every key of `state` that is missing, unexpected, mis-shaped or unusable."""
    both = [key for key in tensors if key in state]
    fitting = [key for key in both if state[key].shape == tensors[key].shape and state[key].dtype in FLOATS]
    finite = [key for key in fitting if state[key].isfinite().all()]
    first = {}  # tensor -> the first key that gives it a value
    for key in finite:
        first.setdefault(id(tensors[key]), key)
    twins = [(key, first[id(tensors[key])]) for key in finite]
    faults = {
        "missing": [key for key in tensors if key not in state],
        "unexpected": [key for key in state if key not in tensors],
        "mis-shaped": [
            f"{key} is {list(state[key].shape)} instead of {list(tensors[key].shape)}"
            for key in both
            if state[key].shape != tensors[key].shape
        ],
        "not floating point": [f"{key} is {state[key].dtype}" for key in both if state[key].dtype not in FLOATS],
        "not finite": [key for key in fitting if key not in finite],
        "one tensor in this network, but of two values": [
            f"{key} and {twin}" for key, twin in twins if key != twin and not torch.equal(state[key], state[twin])
        ],
    }
    lines = [f"  {fault}: {', '.join(keys)}" for fault, keys in faults.items() if keys]
    if lines:
        raise ValueError("\n".join([f"{source}: does not fit the network:", *lines, fix]))


@torch.no_grad()
def fill(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str, fix: str = "") -> None:
    """Copies `state` into `tensors`, converted to their precision; ValueError, with nothing changed, where it does not fit."""
    check(tensors, state, source, fix)
    for key, tensor in tensors.items():
        tensor.copy_(state[key])


def _of(module: nn.Module, prefix: str) -> Tensors:
    return _under(prefix, module.state_dict(keep_vars=True))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {f"{prefix}{key}": tensor for key, tensor in tensors.items()}


def below(state: Mapping[str, Tensor], prefix: str) -> Tensors:
    """The part of a state whose keys start with `prefix`, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def listed(keys: Iterable[object], most: int = 5) -> str:
    """The first of some keys, for a message."""
    shown = [str(key)[:80] for key in keys]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "") if shown else "nothing"
