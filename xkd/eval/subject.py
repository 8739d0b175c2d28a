"""What is evaluated: the encoders of a run, of exported or released files, or untrained ones, and how they were trained."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from xkd.encoder.description import is_exported, read_description
from xkd.encoder.load import file_sha256, load_encoders
from xkd.eval.architecture import check_file, check_same
from xkd.eval.checkpoint import Architecture, find_weights, load_weights, read_architecture
from xkd.eval.config import UNTRAINED, Subject
from xkd.model.config import Modality
from xkd.model.vit import Encoder
from xkd.model.xkd import XKD
from xkd.pipelines.config import DataConfig
from xkd.release.files import BACKBONE_SUFFIX, load_encoder, read_state
from xkd.release.geometry import modality_of
from xkd.release.keys import BACKBONES, PREFIXES, below, encoder_tensors

ACCEPTED = (
    "the folder that `xkd train` wrote, or one of its checkpoints, what `xkd export` wrote, an encoder's file (of xkd.release, or"
    f" released by the authors), the beginning of the names of the latter (PREFIXvid_teacher{BACKBONE_SUFFIX}, ...), or {UNTRAINED}"
)


@dataclass(frozen=True)
class Evaluated:
    """Encoders by modality; `heads`, and the whole net, where the checkpoint has them. `data`: as in training, or the method's."""

    encoders: dict[Modality, Encoder]
    heads: dict[Modality, nn.Module]
    data: DataConfig
    facts: dict  # for the results: where they are from, with a checksum
    net: XKD | None = None


def open_subject(config: Subject) -> Evaluated:
    """The encoders of the data set's modalities. ValueError where they are not to be had, or are not as `architecture` says."""
    path = Path(config.checkpoint)
    if config.checkpoint == UNTRAINED:
        return _untrained(config)
    if config.evaluated_run:
        return _of_run(config.evaluated_run, None if path == config.evaluated_run else path, config)
    if is_exported(path):
        return _of_export(path, config)
    files = _files(config)
    _check_modalities(files, config)
    return _of_files({modality: files[modality] for modality in config.dataset.modalities}, config)


def modalities_in(config: Subject) -> Sequence[Modality]:
    """Those that a checkpoint has encoders of; ValueError where there is no such checkpoint."""
    if config.checkpoint == UNTRAINED or config.evaluated_run:
        return tuple(PREFIXES)
    path = Path(config.checkpoint)
    return read_description(path).modalities if is_exported(path) else tuple(_files(config))


def views_of(config: Subject, evaluated: Evaluated) -> DataConfig:
    """The views of the evaluation. ValueError where its fields do not fit each other, or an encoder cannot take the views."""
    data = config.data.over(evaluated.data)
    for modality, encoder in evaluated.encoders.items():
        shape = getattr(data, f"{modality}_shape")
        try:
            encoder.tokenizer.positions_of(torch.empty((1, *shape), device="meta"))
        except ValueError as error:
            raise ValueError(f"data.{modality}: {error} (clip_seconds, fps and size, or hop and num_mels)") from None
    return data


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A checksum of named tensors, whatever file they came from."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _untrained(config: Subject) -> Evaluated:
    if config.architecture is None:
        raise ValueError(f"checkpoint: {UNTRAINED} does not say which net: set architecture to a run directory or a pretrain yaml")
    architecture = read_architecture(config.architecture)
    facts = {"architecture": str(config.architecture), "seed": config.seed}
    return _of_network(architecture.build(config.seed), architecture.data, config, facts)


def _of_run(folder: Path, checkpoint: Path | None, config: Subject) -> Evaluated:
    """Of the newest checkpoint, unless one is given."""
    architecture = read_architecture(folder)
    if config.architecture:
        check_same(architecture, read_architecture(config.architecture), str(folder), str(config.architecture))
    net, weights = architecture.build(seed=0), find_weights(folder, checkpoint)
    load_weights(net, weights)
    facts = {"weights": str(weights), "weights_sha256": file_sha256(weights)}
    return _of_network(net, architecture.data, config, facts)


def _of_network(net: XKD, data: DataConfig, config: Subject, facts: dict) -> Evaluated:
    parts = {modality: getattr(net, f"{modality}_{config.backbone}") for modality in config.dataset.modalities}
    encoders = {modality: part.encoder for modality, part in parts.items()}
    heads = {modality: part.head for modality, part in parts.items()}
    return Evaluated(encoders, heads, data, _facts(config, encoders) | facts, net)


def _check_modalities(there: Collection[Modality], config: Subject) -> None:
    if missing := [modality for modality in config.dataset.modalities if modality not in there]:
        raise ValueError(
            f"{config.checkpoint}: holds no {missing[0]} encoder, which {config.dataset.name} is evaluated by: give a checkpoint"
            " that has it, or set dataset.streams to what there is"
        )


def _of_export(folder: Path, config: Subject) -> Evaluated:
    described = read_description(folder)
    _check_modalities(described.modalities, config)
    if config.architecture:
        raise ValueError(
            f"architecture: {folder} describes its encoders itself, and {config.architecture} has no effect: remove it"
        )
    if config.backbone != described.backbone:
        raise ValueError(
            f"backbone: {folder} holds the {described.backbone}'s encoders, not the {config.backbone}'s: set backbone="
            f"{described.backbone}, or export the others"
        )
    encoders = load_encoders(folder, described, config.dataset.modalities)
    shards = {"train": config.data.train or "", "test": config.data.test}
    facts = {
        "weights": {modality: str(folder / described.encoders[modality].file) for modality in encoders},
        "weights_sha256": {modality: described.encoders[modality].sha256 for modality in encoders},
    }
    data = DataConfig.model_validate(described.data.model_dump() | shards)
    return Evaluated(encoders, {}, data, _facts(config, encoders) | facts)


def _of_files(files: dict[Modality, tuple[Path, str | None]], config: Subject) -> Evaluated:
    architecture = read_architecture(config.architecture) if config.architecture else None
    encoders = {}
    for modality, (path, part) in files.items():
        given = {}
        if architecture:
            state = read_state(path)
            check_file(below(state, f"{part}.backbone.") if part else state, modality, architecture, str(path), config.architecture)
            given = _geometry(architecture, modality)
        encoders[modality] = load_encoder(path, backbone=part, **given)
    data = architecture.data if architecture else DataConfig(train=config.data.train or "", test=config.data.test)
    paths = {modality: path for modality, (path, _) in files.items()}
    facts = {
        "weights": {modality: str(path) for modality, path in paths.items()},
        "weights_sha256": {modality: file_sha256(path) for modality, path in paths.items()},
    }
    return Evaluated(encoders, {}, data, _facts(config, encoders) | facts)


def _files(config: Subject) -> dict[Modality, tuple[Path, str | None]]:
    """The file of each modality's encoder that the checkpoint has, and its part there, of a whole network."""
    path, names = Path(config.checkpoint), {modality: f"{prefix}_{config.backbone}" for modality, prefix in PREFIXES.items()}
    if not path.is_file():
        files = {modality: (Path(f"{config.checkpoint}{name}{BACKBONE_SUFFIX}"), None) for modality, name in names.items()}
        if found := {modality: file for modality, file in files.items() if file[0].is_file()}:
            return found
        raise ValueError(f"checkpoint: {config.checkpoint} does not exist: give {ACCEPTED}")
    state = read_state(path)
    if any(key.split(".")[0] in BACKBONES for key in state):
        return {modality: (path, name) for modality, name in names.items()}
    return {modality_of(state, str(path)): (path, None)}


def _geometry(architecture: Architecture, modality: Modality) -> dict:
    model, data = architecture.model, architecture.data
    shape, patch = {"video": (data.video_shape, model.video.tubelet), "audio": (data.audio_shape, model.audio.patch)}[modality]
    return {"shape": shape, "patch": patch, "heads": model.encoder_shape.heads}


def _facts(config: Subject, encoders: dict[Modality, Encoder]) -> dict:
    sums = {modality: digest(encoder_tensors(encoder).items()) for modality, encoder in encoders.items()}
    return {"checkpoint": config.checkpoint, "backbone": config.backbone, "encoders_sha256": sums}
