"""Pictures of training, masked reconstruction and results, drawn without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from xkd.eval.scores import Estimate
from xkd.features import clips_of
from xkd.model.xkd import XKD, Modality
from xkd.pipelines.config import DataConfig
from xkd.pipelines.inspect.preview import STRIP_FRAMES, save, strip
from xkd.pipelines.loader import Batch, Loader
from xkd.pipelines.shards.index import ShardSet

MASK_GRAY = 0.5
PANELS = {  # title of a panel of training curves: metrics drawn in it
    "loss": ("loss",),
    "masked reconstruction": ("recon_video", "recon_audio"),
    "distillation": ("v2a", "a2v"),
    "alignment": ("align_student", "align_teacher"),
    "teacher entropy [nat]": ("teacher_entropy_video", "teacher_entropy_audio"),
    "deviation of features over clips": ("feature_std_video", "feature_std_audio"),
    "learning rate": ("lr",),
    "clips per second": ("clips_per_second",),
    "k-NN accuracy of the teachers": ("probe/knn_video", "probe/knn_audio", "probe/knn_both"),
}


def loss_curves(metrics: Sequence[Mapping[str, float]], out: Path) -> None:
    """Training curves from the rows of metrics.jsonl; a panel whose metrics were not recorded is left out."""
    panels = {title: [name for name in names if name in metrics[-1]] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            steps, values = zip(*((row["step"], row[name]) for row in metrics if name in row), strict=True)
            axis.plot(steps, values, label=name, linewidth=1.2, marker="." if len(steps) < 10 else None)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend(fontsize=8)
    for axis in list(axes)[len(panels) :]:
        axis.set_axis_off()
    save(figure, out)


def accuracy_chart(rows: Mapping[str, Mapping[str, Estimate]], out: Path) -> None:
    """Accuracies {row: {modality: estimate}} as bars with their intervals, one panel a modality."""
    modalities = list(dict.fromkeys(modality for cells in rows.values() for modality in cells))
    figure = Figure(figsize=(4 * len(modalities), 1 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(modalities), sharey=True, squeeze=False)[0]
    for axis, modality in zip(axes, modalities, strict=True):
        for place, cells in enumerate(rows.values()):
            if modality in cells:
                _bar(axis, place, cells[modality], f"C{place}")
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set_xlim(0, 112)
        axis.set_xticks(range(0, 101, 20))
        axis.set_title(modality)
        axis.set_xlabel("accuracy [%], 95 % interval", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    save(figure, out)


def reconstructions(net: XKD, shards: ShardSet, data: DataConfig, out: Path, samples: int = 4) -> None:
    """Masked reconstruction of the first samples, as frames and as spectrogram."""
    batch = _first_batch(shards, data, min(samples, len(shards)))
    video, audio = (reconstruction_rows(net, modality, clip) for modality, clip in clips_of(batch).items())
    figure = Figure(figsize=(10.5, 1 + 0.95 * len(video) * len(batch.keys)), layout="constrained")
    for index, block in enumerate(figure.subfigures(len(batch.keys), 1, squeeze=False)[:, 0]):
        axes = block.subplots(len(video), 2, width_ratios=[STRIP_FRAMES, 2.2])
        for (left, right), (name, clips), spectrograms in zip(axes, video.items(), audio.values(), strict=True):
            left.imshow(strip(_frames(clips[index], data)))
            left.text(-0.01, 0.5, name, transform=left.transAxes, ha="right", va="center", fontsize=9)
            left.set_axis_off()
            _show_spectrogram(right, spectrograms[index], like=audio["original"][index])
        block.suptitle(f"class {shards.classes[batch.labels[index]]}   {batch.keys[index]}", fontsize=8)
    figure.suptitle(reconstruction_title(net), fontsize=10)
    save(figure, out)


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


def step_sheet(batch: Batch, hidden: Mapping[str, Tensor], titles: Sequence[str], rows: Sequence[int], data: DataConfig, out: Path):
    """The views of these rows of a batch, each with its title: global ones, what of them the students see, local ones."""
    figure = Figure(figsize=(10.5, 0.6 + 0.95 * len(rows) * len(_views(batch, hidden, "video", 0))), layout="constrained")
    for row, block in zip(rows, figure.subfigures(len(rows), 1, squeeze=False)[:, 0], strict=True):
        video, audio = (_views(batch, hidden, modality, row) for modality in ("video", "audio"))
        axes = block.subplots(max(len(video), len(audio)), 2, width_ratios=[STRIP_FRAMES, 2.2], squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for (left, _), (name, clip) in zip(axes, video.items(), strict=False):
            left.imshow(strip(_frames(clip, data)))
            left.text(-0.01, 0.5, name, transform=left.transAxes, ha="right", va="center", fontsize=9)
        for (_, right), spectrogram in zip(axes, audio.values(), strict=False):
            _show_spectrogram(right, spectrogram, like=audio["global"])
        block.suptitle(titles[row], fontsize=8, parse_math=False)
    save(figure, out)


def _views(batch: Batch, hidden: Mapping[str, Tensor], modality: Modality, row: int) -> dict[str, Tensor]:
    """All views of one row, by name, on the host."""
    whole, local = (getattr(batch, f"{modality}_{kind}") for kind in ("global", "local"))
    views = {"global": whole[row], "seen": whole[row].masked_fill(hidden[modality][row], torch.nan)}
    views |= {f"local {number}": view for number, view in enumerate(local[row] if local is not None else (), 1)}
    return {name: view.cpu() for name, view in views.items()}


def _first_batch(shards: ShardSet, data: DataConfig, samples: int) -> Batch:
    with Loader(shards, data.model_copy(update={"prefetch": 1}), preset="eval", batch_size=samples) as loader:
        return next(loader.epoch(0)).counted()


def _frames(clip: Tensor, data: DataConfig) -> np.ndarray:
    """Frames [T, H, W, 3] in 0..1 of a normalised clip [3, T, H, W]; NaN becomes grey."""
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (data.video.mean, data.video.std))
    return (clip * std + mean).clamp(0, 1).nan_to_num(MASK_GRAY).permute(1, 2, 3, 0).numpy()


def _show_spectrogram(axis, clip: Tensor, like: Tensor | None = None) -> None:
    """Draw a log-mel spectrogram [1, F, S] in the colour range of `like` (default: its own); NaN becomes grey."""
    like = clip if like is None else like
    colours = colormaps["magma"].with_extremes(bad=str(MASK_GRAY))
    axis.imshow(clip[0].numpy(), origin="lower", aspect="auto", cmap=colours, vmin=like.min().item(), vmax=like.max().item())
    axis.set_axis_off()


def _bar(axis, place: int, value: Estimate, colour: str) -> None:
    """A horizontal bar in per cent with its interval and number."""
    mean, low, high = 100 * value.mean, 100 * value.low, 100 * value.high
    axis.barh(place, mean, xerr=[[mean - low], [high - mean]], color=colour, height=0.7, capsize=3, error_kw={"linewidth": 1})
    axis.text(high + 1.5, place, f"{mean:.1f}", va="center", fontsize=8)
