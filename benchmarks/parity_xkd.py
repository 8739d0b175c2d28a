"""Parity of the whole network: losses, gradients and centres of one step, and the float64 state after it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from xkd.benchmarks.parity_geometry import DECODER_HEADS, ENCODER_HEADS, Shape, heads, patches
from xkd.benchmarks.parity_rows import (
    GRADIENT,
    LOSS,
    Comparison,
    Golden,
    Row,
    exact,
    first_that_passes,
    gradient,
    relative,
    worst,
)
from xkd.benchmarks.parity_step import StepSettings, step_rows
from xkd.losses import LossWeights, total
from xkd.model.config import AudioConfig, VideoConfig
from xkd.model.geometry import by
from xkd.model.output import XKDOutput
from xkd.model.refinement import WEIGHTINGS
from xkd.model.xkd import OTHER, XKD
from xkd.release.geometry import model_config
from xkd.release.keys import EMBEDDINGS, PREFIXES, fill, network_tensors

# Released names of the losses, and ours.
LOSSES = {
    "vid_recon_loss": "recon_video",
    "aud_recon_loss": "recon_audio",
    "recon_loss": "recon",
    "vt2as_kd_loss": "v2a",
    "at2vs_kd_loss": "a2v",
    "cmkd_loss": "cmkd",
    "as2vs_align_loss": "align_student",
    "vt2at_align_loss": "align_teacher",
    "alignment_loss": "align",
    "loss": "loss",
}
WITH_MMD = {"as2vs_align_loss", "vt2at_align_loss", "alignment_loss", "loss"}
CENTERS = {"video": "center_vt2as", "audio": "center_at2vs"}
STUDENT_MMD = "as2vs_align_loss"
FLOAT32_MMD = 0.06  # how far the release's float32 MMD was seen to be off
NOISE_MARGIN = 2  # of the noise measured in one mode, for another


@dataclass(frozen=True)
class Reading:
    """How the file is read: what neither shapes nor keys say."""

    tubelet: Shape
    patch: Shape
    norm_pix_loss: bool
    sharing: str | None

    def __str__(self) -> str:
        pixels = str(self.norm_pix_loss).lower()
        shared = f", sharing {self.sharing}" if self.sharing else ""
        return f"video in tokens of {by(self.tubelet)}, audio of {by(self.patch)}, norm_pix_loss {pixels}{shared}"


def compare_network(golden: Golden, settings: StepSettings, given_heads: int | None, given_decoder_heads: int | None) -> Comparison:
    state, stored_as = _state(golden)
    clips = _clips(golden)
    values = {
        modality: state[f"{PREFIXES[modality]}_student.backbone.{EMBEDDINGS[modality]}.proj.weight"].shape[1] for modality in OTHER
    }
    cuts = [
        patches(modality, values[modality], [clips[f"{modality}_global"].shape[1:], clips[f"{modality}_local"].shape[2:]])
        for modality in OTHER
    ]
    dim, decoder_dim = (state[f"vid_{part}"].shape[-1] for part in ("student.backbone.encoder_norm.weight", "ae.mask_token"))
    head_counts = {
        "heads": heads(dim, ENCODER_HEADS, given_heads),
        "decoder_heads": heads(decoder_dim, DECODER_HEADS, given_decoder_heads),
    }
    readings = [Reading(*cut, norm, _sharing(stored_as)) for *cut, norm in product(*cuts, (True, False))]
    modes = golden.groups(r"([a-z]+(?:64)?)/loss/loss$")
    stepped = next((mode for mode in ("mean64", *modes) if mode in modes and mode.endswith("64")), None)

    def rows(reading: Reading) -> Iterator[Row]:
        for mode in modes:
            xkd = _network(golden, mode, state, clips, reading, settings, head_counts)
            yield from _mode(golden, mode, xkd, clips, settings)
            if mode == stepped:
                yield from step_rows(golden, xkd, settings)

    return first_that_passes(readings, rows)


def _network(golden, mode: str, state, clips, reading: Reading, settings: StepSettings, head_counts: dict[str, int]) -> XKD:
    refinement = mode.removesuffix("64")
    if refinement not in WEIGHTINGS:
        raise ValueError(f"{golden.path}: mode {mode!r} is not one of {', '.join(WEIGHTINGS)}, each with or without 64")
    config = model_config(
        state,
        source=golden.name,
        sharing=reading.sharing,
        **head_counts,
        video=VideoConfig(tubelet=reading.tubelet, mask_ratio=settings.video_mask_ratio),
        audio=AudioConfig(patch=reading.patch, mask_ratio=settings.audio_mask_ratio),
        teacher_view="local",
        refinement=refinement,
        shared_ema="release" if reading.sharing == "both" else "once",
    )
    loss = settings.loss.model_copy(update={"norm_pix_loss": reading.norm_pix_loss})
    shapes = {
        "video_shape": clips["video_global"].shape[1:],
        "audio_shape": clips["audio_global"].shape[1:],
        "local_video_shape": clips["video_local"].shape[2:],
        "local_audio_shape": clips["audio_local"].shape[2:],
    }
    xkd = XKD(config, loss, **{name: tuple(shape) for name, shape in shapes.items()}, seed=0)
    fill(network_tensors(xkd), state, golden.name)
    return xkd.to(torch.float64 if mode.endswith("64") else torch.float32)


def _mode(golden: Golden, mode: str, xkd: XKD, clips: Mapping[str, Tensor], settings: StepSettings) -> Iterator[Row]:
    """Losses, gradients and centres in one refinement mode and precision; the gradients stay on the network."""
    dtype = torch.float64 if mode.endswith("64") else torch.float32
    views = {name: clip.to(dtype) for name, clip in clips.items()}
    output = xkd(**views, step=0, noise_video=golden["noise_vid"], noise_audio=golden["noise_aud"])
    yield from _losses(golden, mode, output, settings.loss.weights)
    output.loss.backward()
    tensors = network_tensors(xkd)
    for kind in ("grad", "gradnorm"):
        yield from worst(f"{mode}/{kind}", _gradients(golden, mode, kind, tensors))
    if f"{mode}/params_without_grad" in golden:
        without = [name for name, parameter in xkd.named_parameters() if parameter.requires_grad and parameter.grad is None]
        count = torch.tensor(float(golden[f"{mode}/params_without_grad"].numel()))
        yield exact(f"{mode}/params_without_grad", torch.tensor(float(len(without))), count)
    xkd.update_centers(output.teacher_mean_video, output.teacher_mean_audio)
    for modality, name in CENTERS.items():
        if f"{mode}/{name}" in golden:
            center_1K = getattr(xkd, f"{modality}_teacher").center[None]
            yield relative(f"{mode}/{name}", center_1K, golden[f"{mode}/{name}"], LOSS)


def _losses(golden: Golden, mode: str, output: XKDOutput, weights: LossWeights) -> Iterator[Row]:
    """MMD against float64. Of a float32 mode without a float64 twin, the sum is compared with the file's own MMD in it."""
    ours = {**output.parts, "loss": output.loss}
    for name, part in LOSSES.items():
        key, twin = f"{mode}/loss/{name}", f"{mode}64/loss/{name}"
        if key not in golden:
            continue
        if mode.endswith("64") or name not in WITH_MMD:
            yield relative(key, ours[part], golden[key], LOSS)
        elif twins := [twin] if twin in golden else _of_any_refinement(golden, name):
            yield relative(key, ours[part], golden[twins[0]], LOSS, f", b is {twins[0]}")
        elif name == "loss":
            own = total({**output.parts, "align": golden[f"{mode}/loss/alignment_loss"]}, weights)
            yield relative(key, own, golden[key], LOSS, ", a with b's alignment_loss")
        else:
            yield relative(key, ours[part], golden[key], FLOAT32_MMD, ", b in float32 only")


def _of_any_refinement(golden: Golden, name: str) -> list[str]:
    """The students' MMD, which refinement has no part in, in the float64 modes."""
    return [key for mode in WEIGHTINGS if name == STUDENT_MMD and (key := f"{mode}64/loss/{name}") in golden]


def _gradients(golden: Golden, mode: str, kind: str, tensors: Mapping[str, Tensor]) -> Iterator[Row]:
    for name in golden.names(f"{mode}/{kind}/"):
        found = gradient(tensors, name)
        reference = _gradient_reference(golden, mode, f"{kind}/{name}")
        yield relative(name, found.norm() if kind == "gradnorm" else found, *reference)


def _gradient_reference(golden: Golden, mode: str, name: str) -> tuple[Tensor, float, str]:
    """The file's value, the tolerance, a note: where the release's float32 MMD has a part in it, its float64 twin.

    Without a twin the tolerance grows by the noise that float32 has in the same tensor of a mode that has one.
    """
    key = f"{mode}/{name}"
    if mode.endswith("64") or "_ae." in name:
        return golden[key], GRADIENT, ""
    if f"{mode}64/{name}" in golden:
        return golden[f"{mode}64/{name}"], GRADIENT, f", b of {mode}64"
    pairs = [(f"{other}/{name}", f"{other}64/{name}") for other in WEIGHTINGS]
    noise = [relative(name, golden[one], golden[two], 0).error for one, two in pairs if one in golden and two in golden]
    return golden[key], GRADIENT + NOISE_MARGIN * max(noise, default=0), f"; noise of b's float32: {max(noise, default=0):.1e}"


def _state(golden: Golden) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The whole state dict, and under which key each duplicate is stored."""
    state = golden.state()
    stored_as = dict(line.split("=") for line in golden.lines("sd_alias"))
    return {**state, **{key: state[stored] for key, stored in stored_as.items()}}, stored_as


def _sharing(stored_as: Mapping[str, str]) -> str | None:
    """Whose blocks the file stores once; None where it names no duplicates, and values must tell."""
    if not stored_as:
        return None
    shared = {
        role: any(
            key.startswith(f"aud_{role}.backbone.encoder.blocks.") and stored.startswith(f"vid_{role}.")
            for key, stored in stored_as.items()
        )
        for role in ("student", "teacher")
    }
    return "both" if shared["teacher"] else "student" if shared["student"] else "none"


def _clips(golden: Golden) -> dict[str, Tensor]:
    """The arguments of the network's forward: one global view a modality, and its local views stacked."""
    clips = {}
    for modality, name in (("video", "frames"), ("audio", "specs")):
        first, *local = (golden[key] for key in sorted(golden.groups(rf"({name}\d+)$"), key=lambda key: int(key[len(name) :])))
        clips |= {f"{modality}_global": first, f"{modality}_local": torch.stack(local, dim=1)}
    return clips
