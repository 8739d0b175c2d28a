"""What a state dict under released names says of the network that it belongs to."""

from collections.abc import Mapping
from statistics import mode

import torch

from xkd.model.config import DECODERS, ENCODERS, Modality, ModelConfig, ProjectorConfig, TransformerConfig
from xkd.release.keys import EMBEDDINGS, Tensors, below, listed


def modality_of(state: Tensors, source: str) -> Modality:
    """The modality of a backbone, by the name of its patch embedding."""
    found = [modality for modality, name in EMBEDDINGS.items() if below(state, f"{name}.")]
    if len(found) != 1:
        names = " or ".join(f"{name}.proj.weight ({modality})" for modality, name in EMBEDDINGS.items())
        raise ValueError(f"{source}: is no backbone of XKD, which holds either {names}: it has {listed(state)}")
    return found[0]


def encoder_config(state: Tensors, heads: int | None, source: str) -> TransformerConfig:
    """The shape of a backbone. No file shows the heads: without them it is the named size of its width; with them, blocks count."""
    holders = ("enc_pos_embed", "cls_token", "encoder_norm.weight", "encoder_norm.bias")
    return _transformer(state, holders, "encoder.blocks.", heads, ENCODERS, source)


def decoder_config(state: Tensors, heads: int | None, source: str) -> TransformerConfig:
    """The shape of an autoencoder's decoder, as `encoder_config`."""
    return _transformer(state, ("dec_pos_embed", "mask_token", "mid_proj.bias"), "decoder.blocks.", heads, DECODERS, source)


def projector_config(state: Tensors, source: str) -> ProjectorConfig:
    """The shape of a head; norms that are equal are taken for one."""
    layers = [tensor for key, tensor in state.items() if key.startswith("mlp.") and tensor.ndim == 2]
    directions = state.get("last_layer.weight_v")
    if len(layers) < 2 or directions is None or directions.ndim != 2:
        raise ValueError(
            f"{source}: holds no head of XKD (mlp.0.weight, mlp.3.weight, ..., last_layer.weight_v): it has {listed(state)}"
        )
    norms = [below(state, f"mlp.{3 * index + 1}.") for index in range(len(layers) - 1)]
    return ProjectorConfig(
        hidden_dim=len(layers[0]),
        num_layers=len(layers),
        bottleneck_dim=directions.shape[1],
        out_dim=directions.shape[0],
        shared_norm=all(_equal(norm, norms[0]) for norm in norms),
    )


def model_config(
    state: Tensors, *, source: str, heads: int | None = None, decoder_heads: int | None = None, sharing: str | None = None, **fields
) -> ModelConfig:
    """The configuration of a whole network; `fields` are those of ModelConfig that no file shows (video, audio, ...).

    Raises ValueError where `sharing` must be given: where the blocks of both students and those of both teachers are equal, the
    teachers' may be shared, or two copies that have not parted.
    """
    backbone, autoencoder, head = (below(state, f"vid_{part}.") for part in ("student.backbone", "ae", "student.head"))
    return ModelConfig(
        encoder=encoder_config(backbone, heads, source),
        decoder=decoder_config(autoencoder, decoder_heads, source),
        projector=projector_config(head, source),
        sharing=sharing or _sharing(state, source),
        cls_token="cls_token" in backbone,
        **fields,
    )


def _transformer(
    state: Tensors, holders: tuple[str, ...], blocks: str, heads: int | None, sizes: Mapping[str, TransformerConfig], source: str
) -> TransformerConfig:
    """`holders` are tensors whose last side is the width; most of them must agree."""
    widths = [state[key].shape[-1] for key in holders if key in state and state[key].ndim]
    if not widths:
        raise ValueError(f"{source}: holds none of {', '.join(holders)}: it has {listed(state)}")
    dim = mode(widths)
    if heads is not None:
        depth = len({key.split(".")[0] for key in below(state, blocks)})
        if not depth or heads < 1 or dim % heads:
            raise ValueError(
                f"{source}: {depth} blocks of width {dim} and heads={heads} are no transformer: give heads that divide it"
            )
        return TransformerConfig(dim=dim, depth=depth, heads=heads)
    for size in sizes.values():
        if size.dim == dim:
            return size
    known = ", ".join(f"{size.dim} ({name})" for name, size in sizes.items())
    raise ValueError(f"{source}: the width {dim} is not one of {known}, and no file shows the number of heads: give heads")


def _sharing(state: Tensors, source: str) -> str:
    students, teachers = (
        _equal(*(below(state, f"{modality}_{role}.backbone.encoder.blocks.") for modality in ("vid", "aud")))
        for role in ("student", "teacher")
    )
    if students and teachers:
        raise ValueError(
            f"{source}: the blocks of both students are equal, and of both teachers: give sharing, 'student' or 'both'"
        )
    return "student" if students else "none"


def _equal(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
