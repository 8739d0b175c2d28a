"""Writes an exported folder: a file an encoder, config.json, and README.md, the model card."""

from collections.abc import Mapping
from pathlib import Path

from xkd.encoder.description import (
    VIEW_FIELDS,
    Description,
    EncoderFile,
    StoredFrames,
    Views,
    is_exported,
    read_description,
    write_description,
)
from xkd.encoder.load import file_sha256
from xkd.env import environment
from xkd.eval.subject import Evaluated, modalities_in, open_subject
from xkd.export.card import card
from xkd.export.config import ExportConfig
from xkd.export.facts import RunFacts, run_facts
from xkd.export.layouts import LAYOUTS
from xkd.model.config import Modality
from xkd.model.vit import Encoder
from xkd.pipelines.config import DataConfig
from xkd.pipelines.convert.profiles import PROFILES

DEFAULT_FORM = PROFILES["pretrain"].video


def export(config: ExportConfig, out: Path, layout: str) -> Description:
    """Write the encoders to a new folder `out`, in a layout of LAYOUTS.

    Raises ValueError, with nothing written, where the checkpoint is not to be had or lacks a modality, or `out` is in use.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists and is not an empty folder: give another --out, or remove it")
    subject = config.subject
    if missing := [modality for modality in config.modalities if modality not in (there := modalities_in(subject))]:
        raise ValueError(f"{config.checkpoint}: holds no {missing[0]} encoder: set modality={there[0]}, or give another checkpoint")
    evaluated, run = open_subject(subject), run_facts(subject)
    out.mkdir(parents=True, exist_ok=True)
    described = Description(
        layout=layout,
        backbone=config.backbone,
        encoders=_save(evaluated.encoders, config.backbone, out, layout),
        data=_views(evaluated.data),
        stored=_stored(config, run),
        source=_source(evaluated, run),
    )
    (out / "README.md").write_text(card(out.name, described, evaluated, run))
    write_description(described, out)  # last: a folder without it is not whole
    return described


def _save(encoders: Mapping[Modality, Encoder], backbone: str, out: Path, layout: str) -> dict[Modality, EncoderFile]:
    saved = {}
    for modality, encoder in encoders.items():
        path = out / LAYOUTS[layout].name(modality, backbone)
        LAYOUTS[layout].save(encoder, path)
        saved[modality] = _entry(encoder, path)
    return saved


def _entry(encoder: Encoder, path: Path) -> EncoderFile:
    tokenizer, first = encoder.tokenizer, 0 if encoder.tokenizer.modality == "video" else 1  # a spectrogram is one frame
    sides = [tokens * side for tokens, side in zip(tokenizer.grid, tokenizer.patch, strict=True)]
    return EncoderFile(
        file=path.name,
        sha256=file_sha256(path),
        dim=encoder.norm.weight.numel(),
        depth=len(encoder.blocks),
        heads=encoder.blocks[0].attn.num_heads,
        cls_token=bool(tokenizer.num_class),
        shape=(tokenizer.channels, *sides[first:]),
        patch=tokenizer.patch[first:],
    )


def _views(data: DataConfig) -> Views:
    """The section without what it says of folders and machines."""
    fields = {name: getattr(data, name) for name in VIEW_FIELDS}
    return Views.model_validate(fields)


def _stored(config: ExportConfig, run: RunFacts | None) -> StoredFrames:
    """How frames lay in the training shards; where those are not at hand, as the default profile writes them."""
    if is_exported(Path(config.checkpoint)):
        return read_description(Path(config.checkpoint)).stored
    form = run.manifest.video if run and run.manifest else DEFAULT_FORM
    return StoredFrames(fps=form.fps, short_side=form.short_side, multiple=form.multiple)


def _source(evaluated: Evaluated, run: RunFacts | None) -> dict:
    """What these encoders are, without the paths of the machine that they were trained on."""
    made_with = {name: value for name, value in environment().items() if name in ("xkd", "torch", "commit")}
    of_run = {"run": run.name, "step": run.step} if run else {}
    sums = {name: evaluated.facts[name] for name in ("weights_sha256", "encoders_sha256")}
    return {**of_run, **sums, "exported_with": made_with}
