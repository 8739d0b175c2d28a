"""Whether weights are of the network that they are taken for, and if not, which field of it differs."""

import math
from pathlib import Path

from xkd.eval.checkpoint import Architecture
from xkd.model.config import Modality
from xkd.model.geometry import token_grid
from xkd.release.keys import EMBEDDINGS, Tensors, below


def check_same(own: Architecture, given: Architecture, source: str, given_source: str) -> None:
    """ValueError, with each field of the net and its views that differs, unless both describe one network."""
    mine, other = _fields(own), _fields(given)
    differing = [
        f"{name} is {mine.get(name)} in {source} and {other.get(name)} in {given_source}"
        for name in {**mine, **other}
        if mine.get(name) != other.get(name)
    ]
    _refuse(differing, given_source)


def check_file(state: Tensors, modality: Modality, architecture: Architecture, source: str, described_by: Path) -> None:
    """ValueError, with each field that differs, unless a backbone's tensors are of the encoder that is described."""
    model, data = architecture.model, architecture.data
    patch_field, patch = {"video": ("tubelet", model.video.tubelet), "audio": ("patch", model.audio.patch)}[modality]
    shape = getattr(data, f"{modality}_shape")
    values, tokens = math.prod(patch) * shape[0], math.prod(token_grid(shape, patch, f"global {modality} view"))
    wanted = {
        "model.encoder.dim": model.encoder_shape.dim,
        "model.encoder.depth": model.encoder_shape.depth,
        "model.cls_token": model.cls_token,
        f"model.{modality}.{patch_field} (values a token)": values,
        f"data (tokens of a {modality} view of {'x'.join(map(str, shape[1:]))})": tokens,
    }
    found = dict(zip(wanted, _shape_of(state, modality), strict=True))
    differing = [
        f"{name} is {found[name]} in {source} and {wanted[name]} in {described_by}"
        for name in wanted
        if found[name] not in (None, wanted[name])
    ]
    _refuse(differing, str(described_by))


def _shape_of(state: Tensors, modality: Modality) -> tuple[int | bool | None, ...]:
    """Width, depth, whether there is a class token, values a token, tokens; None of what is not there: the loader tells that."""
    projection, positions = state.get(f"{EMBEDDINGS[modality]}.proj.weight"), state.get("enc_pos_embed")
    width, values = (None, None) if projection is None or projection.ndim != 2 else projection.shape
    blocks = {key.split(".")[0] for key in below(state, "encoder.blocks.")}
    has_class = "cls_token" in state
    tokens = None if positions is None or positions.ndim != 3 else positions.shape[1] - has_class
    return width, len(blocks) or None, has_class, values, tokens


def _refuse(differing: list[str], given: str) -> None:
    if differing:
        raise ValueError(f"architecture: {'; '.join(differing)}: give what the weights were trained with in place of {given}")


def _fields(architecture: Architecture) -> dict:
    """The fields that tensors and features follow from."""
    views = {f"data.{name}": shape for name, shape in architecture.data.view_shapes.items()}
    model = architecture.model
    derived = {"size": None, "encoder": model.encoder_shape, "decoder": model.decoder_shape}
    return _flat(model.model_copy(update=derived).model_dump(exclude={"size", "activation_checkpointing"}), "model") | views


def _flat(tree: dict, prefix: str) -> dict:
    flat = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}.{name}") if isinstance(value, dict) else {f"{prefix}.{name}": value}
    return flat
