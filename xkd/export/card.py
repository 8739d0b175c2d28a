"""The model card of an exported folder: what its encoders are, take and were trained on, what they reached, whose they are."""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from xkd import __version__
from xkd.config import dump
from xkd.encoder.description import Description, StoredFrames
from xkd.eval.comparison import cell, measures_of
from xkd.eval.subject import Evaluated
from xkd.export.facts import RunFacts
from xkd.export.timm_layout import timm_snippet
from xkd.features import BOTH
from xkd.losses import LossConfig
from xkd.model.config import Modality, ModelConfig
from xkd.model.geometry import by
from xkd.model.vit import Encoder
from xkd.pipelines.config import LOG_FLOOR, AudioConfig, DataConfig
from xkd.train.config import ClipConfig, EmaConfig, OptimConfig

CITATION = (
    'The method: Pritam Sarkar and Ali Etemad, "XKD: Cross-modal Knowledge Distillation with Domain Alignment for Video'
    ' Representation Learning", AAAI 2024, arXiv:2211.13929. Trained and exported with XKD-Train, an independent implementation.'
)
LICENCE = (
    "XKD-Train, which made this folder and loads it, is under Apache-2.0. That does not say what may be done with the weights: who"
    " publishes them chooses their licence, within the terms of the data that they were trained on."
)
OF_A_FILE = (
    " These come from weights without a run directory, which do not say who trained them. The weights that the authors of XKD"
    " publish, and what is made of them, are under CC BY-NC 4.0: not for commercial use."
)
UNKNOWN = "Not known: the weights came without their run directory."


class _Published(BaseModel):
    """The sections of a run's configuration that say how it was trained; no folder or machine is named in them."""

    model: ModelConfig
    loss: LossConfig
    optim: OptimConfig
    clip: ClipConfig
    ema: EmaConfig


def card(name: str, described: Description, evaluated: Evaluated, run: RunFacts | None) -> str:
    """README.md of the folder `name`."""
    sections = {
        "Use": _use(name, described, evaluated),
        "Encoders": _table(list(_encoders(described, evaluated))),
        "Views": _views(described),
        "Data": _data(run),
        "Training": _training(run),
        "Results": _results(evaluated, run),
        "Licence": LICENCE + ("" if run else OF_A_FILE),
        "Source": CITATION,
    }
    streams = " and ".join(described.modalities)
    origin = (
        f"the run `{run.name}`" + ("" if run.step is None else f", step {run.step}") if run else "weights without a run directory"
    )
    head = f"# {name}\n\nThe {described.backbone}'s encoders of {streams}, of {origin}. Exported by XKD-Train {__version__}.\n"
    return "\n".join([head, *(f"## {title}\n\n{text}\n" for title, text in sections.items())])


def _use(name: str, described: Description, evaluated: Evaluated) -> str:
    if described.layout == "timm":
        parts = [
            f"For {modality}, `view` as told below:\n\n```python\n{timm_snippet(encoder, described.encoders[modality].file)}\n```"
            for modality, encoder in evaluated.encoders.items()
        ]
        return "\n\n".join(parts)
    lines = [
        "import torch",
        "import xkd",
        "",
        f'encoder = xkd.load_encoder("{name}")',
        'views = encoder.preprocess("clip.mp4")  # or frames=, fps=, waveform=, sample_rate=',
        "with torch.inference_mode():",
        "    features = encoder(views)",
    ]
    told = ", ".join(f"{modality} [1, {entry.dim}]" for modality, entry in described.encoders.items())
    return "\n".join(
        ["```python", *lines, "```", "", f"`features` holds {told}: the mean of the patch tokens after the final norm."]
    )


def _encoders(described: Description, evaluated: Evaluated) -> Iterator[list[str]]:
    yield ["", "file", "parameters", "transformer", "view", "token", "tokens", "checksum"]
    for modality, entry in described.encoders.items():
        encoder, token = evaluated.encoders[modality], "class token and " if entry.cls_token else ""
        yield [
            modality,
            entry.file,
            f"{_parameters(encoder) / 1e6:.2f} M",
            f"{entry.depth} blocks of width {entry.dim}, {entry.heads} heads",
            by(entry.shape),
            by(entry.patch),
            f"{token}{encoder.tokenizer.num_tokens}",
            evaluated.facts["encoders_sha256"][modality][:12],
        ]


def _views(described: Description) -> str:
    data = described.data
    lines = [
        f"- A clip lasts {data.clip_seconds:g} s, the same stretch of both streams: the middle of what they cover together, or"
        " several spread evenly from begin to end."
    ]
    if "video" in described.modalities:
        lines += _of_pictures(data, described.stored)
    if "audio" in described.modalities:
        lines += _of_sound(data, data.audio)
    return "\n".join(lines)


def _of_pictures(data: DataConfig, stored: StoredFrames) -> list[str]:
    video, size = data.video, data.video.global_view.size
    resized = f" The short side is brought to {size} pixels first." if data.crop_from == "resized" else ""
    return [
        f"- Frames: upright, square pixels, the short side {stored.short_side} pixels, the long side the nearest multiple of"
        f" {stored.multiple} (bicubic; yuv420p in BT.601), {stored.fps} a second. (In training they were encoded so, with loss.)",
        f"- Of these the last that had begun at each k / {video.fps:g} s, k = 0 ... {data.num_frames - 1}; a video that is too"
        " short starts again.",
        f"- The largest centred square, {size}x{size} (bilinear, antialiased), RGB in whole levels.{resized}",
        f"- (x / 255 - mean) / std, mean {list(video.mean)}, std {list(video.std)}: [3, {data.num_frames}, {size}, {size}].",
    ]


def _of_sound(data: DataConfig, audio: AudioConfig) -> list[str]:
    return [
        f"- Sound: mono, {audio.sample_rate} Hz, in [-1, 1], {data.clip_samples} samples, silence where it ends sooner.",
        f"- Spectrogram: windows of {audio.n_fft} samples (periodic Hann), a hop of {audio.hop}, centred, ends reflected; power;"
        f" {audio.num_mels} mel bands from {audio.low_hz:g} to {audio.high_hz:g} Hz (Slaney's scale and normalisation).",
        f"- (log(x + {LOG_FLOOR:g}) - ({audio.mean})) / {audio.std}: {list(data.audio_shape)}.",
    ]


def _data(run: RunFacts | None) -> str:
    if run is None:
        return UNKNOWN
    loader, manifest = run.checkpoint.get("loader"), run.manifest
    if loader is None:
        return "Not known: the checkpoint has no record of it."
    counts = f"{loader['num_samples']} clips, shards {loader['shards_sha256'][:12]}"
    if manifest is None:
        return f"{counts}. The shards were not at hand when this was written, so their data set is not named here."
    official = manifest.completeness.official
    published = "" if official is None else f" of {official} published"
    return (
        f"{counts}: {manifest.name}, split {manifest.split}, converted as `{manifest.settings.dataset}`:"
        f" {manifest.num_samples}{published} clips, {manifest.num_failures} could not be converted,"
        f" {manifest.video_seconds / 3600:.2f} h of video, {manifest.audio_seconds / 3600:.2f} h of sound, {len(manifest.classes)}"
        " classes (pre-training uses no labels)."
    )


def _training(run: RunFacts | None) -> str:
    if run is None:
        return UNKNOWN
    config = run.config
    done = f"{run.step} steps, {run.checkpoint['epoch']:g} epochs, of {config.train.epochs:g}" if run.step else "Steps not recorded"
    sections = dump(_Published(**{name: getattr(config, name) for name in _Published.model_fields}))
    return f"{done}; {config.train.global_batch} clips a step, seed {config.seed}.\n\n```yaml\n{sections}```"


def _results(evaluated: Evaluated, run: RunFacts | None) -> str:
    """The results in the run directory that are of these very encoders."""
    lines = [["data set", "protocol", "modality", "measure", "per cent"]]
    for result in run.results if run else []:
        for column, measure in measures_of(result).items():
            if _is_of(evaluated, result.encoders, column.modality):
                interval = f" [{100 * measure['low']:.1f}, {100 * measure['high']:.1f}]" if "low" in measure else ""
                lines.append([column.dataset, column.protocol, column.modality, column.metric, cell(measure, result) + interval])
    if not lines[1:]:
        return "None were found beside the checkpoint for these weights."
    star = "A star: of less than the whole published data set, or with clips in both splits."
    return f"{_table(lines)}\n\n[Interval]: 95 %, bootstrap over test clips; +-: deviation between folds. {star}"


def _is_of(evaluated: Evaluated, checksums: dict[str, str], modality: str) -> bool:
    needed: Sequence[Modality] = ("video", "audio") if modality == BOTH else (modality,)
    ours = evaluated.facts["encoders_sha256"]
    return all(one in ours and checksums.get(one) == ours[one] for one in needed)


def _table(lines: list[list[str]]) -> str:
    heading, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *body))


def _parameters(encoder: Encoder) -> int:
    return sum(parameter.numel() for parameter in encoder.parameters())
