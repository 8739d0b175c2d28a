"""The DALI graph: one decode of just the frames needed, every view cut from it, spectrograms beside; the same for CPU and GPU.

Pictures leave it as uint8, a quarter of the bytes; finish.py colours and normalises them. Blur commutes with that, both being
linear, so it stays in here. Rounding to levels is off by at most half a one, .009 of a normalised value (and again after a blur).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nvidia.dali import Pipeline, fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

from xkd.pipelines.config import VideoView
from xkd.pipelines.views.augment_policy import apply_policy
from xkd.pipelines.views.example import ExampleConfig
from xkd.pipelines.views.spectrogram import log_mel

PCM_SCALE = 1 / 32768


@dataclass(frozen=True)
class Device:
    """Where the graph runs: DALI's name for the decoder's backend, and whether its inputs are moved to the GPU."""

    decoder: str
    gpu: bool

    @property
    def id(self) -> int | None:
        return torch.cuda.current_device() if self.gpu else None

    def put(self, node: DataNode) -> DataNode:
        return node.gpu() if self.gpu else node


DEVICES = {"cpu": Device(decoder="cpu", gpu=False), "gpu": Device(decoder="mixed", gpu=True)}


def output_names(config: ExampleConfig) -> tuple[str, ...]:
    """The outputs of the graph, in order: those of which an example has views."""
    return tuple(name for name, count in config.view_counts.items() if count)


def input_names(outputs: Sequence[str], names: Iterable[str]) -> list[str]:
    """Those of the named inputs that these outputs are made of."""
    bytes_of = {output: ("pcm",) if output in ("pcm", "audio_global", "audio_local") else ("video", "frames") for output in outputs}
    return [name for name in names if any(name in bytes_of[output] or name.startswith(output) for output in outputs)]


def build_graph(config: ExampleConfig, *, batch_size: int, device: str, outputs: Sequence[str] | None = None) -> Pipeline:
    """A built pipeline whose inputs are fed by name and whose outputs are `output_names(config)`; executor.py runs it.

    Others are for measuring (stages.py): some of them, the decoded `frames`, or the sound as it was fed, `pcm`.

    The queue depth of 1 is no limit: it only lets the first `schedule_run` start one batch, as every later one does, so that the
    caller alone decides how many batches are under way.
    """
    place = DEVICES[device]
    pipeline = _graph(
        config,
        place,
        outputs or output_names(config),
        batch_size=batch_size,
        num_threads=config.pipeline_threads,
        device_id=place.id,
        prefetch_queue_depth=1,
    )
    pipeline.build()
    return pipeline


@pipeline_def(enable_conditionals=True, exec_dynamic=True)
def _graph(config, device, outputs):
    clips = decoded_clips(config, device)
    waveform = device.put(fn.external_source(name="pcm", dtype=types.INT16, ndim=1))
    parts = {"frames": clips[0], "pcm": waveform}
    makers = {
        "video_global": (global_video_view, clips),
        "audio_global": (global_audio_view, waveform),
        "video_local": (local_video_view, clips),
        "audio_local": (local_audio_view, waveform),
    }
    for name in outputs:
        if name in makers:
            make, source = makers[name]
            views = [make(source, f"{name}{k}", k, config) for k in range(config.view_counts[name])]
            parts[name] = fn.stack(*views) if len(views) > 1 else views[0]
    return tuple(parts[name] for name in outputs)


def decoded_clips(config: ExampleConfig, device: Device) -> list[DataNode]:
    """The frames of each clip, FHWC uint8; executor.py feeds `frame_inputs` of the numbers of all."""
    video = fn.external_source(name="video", dtype=types.UINT8, ndim=1)
    # Pinned threads would put the first thread of every pipeline, and rank, on the same core.
    frames = fn.decoders.video(video, device=device.decoder, frames=integers("frames.decoded"), affine=False)
    if config.crop_from == "resized":
        frames = fn.resize(frames, resize_shorter=config.video.global_view.size)
    order, rearranged = integers("frames.order"), integer("frames.rearranged")
    if config.clips == 1:
        return [arranged(frames, order, rearranged)]
    return [arranged_part(frames, order, rearranged, k * config.num_frames, config.num_frames) for k in range(config.clips)]


def frame_inputs(numbers: np.ndarray) -> dict[str, np.ndarray]:
    """What the graph is fed for the numbers of the clips' frames: each of them once, rising, and how the clips are made of these.

    Numbers may repeat or turn back, where a video shorter than the clip starts again or several clips overlap. For a number
    that repeats, DALI 2.4's decoder starts at the beginning of the file.
    """
    decoded, order = np.unique(numbers, return_inverse=True)
    rearranged = np.int32(not np.array_equal(decoded, numbers))
    return {"frames.decoded": decoded, "frames.order": order.astype(np.int32), "frames.rearranged": rearranged}


def arranged(frames: DataNode, order: DataNode, rearranged: DataNode) -> DataNode:
    """The frames in this order, of the examples that have another one."""
    if rearranged > 0:
        frames = fn.sequence_rearrange(frames, new_order=order)
    return frames


def arranged_part(frames: DataNode, order: DataNode, rearranged: DataNode, start: int, count: int) -> DataNode:
    """A part of that. All at once, clips that overlap would take many times the memory of what is decoded."""
    if rearranged > 0:
        frames = fn.sequence_rearrange(frames, new_order=fn.slice(order, start=start, shape=count, axes=[0]))
    else:
        frames = fn.slice(frames, start=start, shape=count, axes=[0])
    return frames


def global_video_view(clips: list[DataNode], name: str, place: int, config: ExampleConfig) -> DataNode:
    """A view of all frames of a clip; the clips of an example follow each other, each with its crops."""
    return video_view(clips[place // config.crops], name, config.video.global_view)


def local_video_view(clips: list[DataNode], name: str, place: int, config: ExampleConfig) -> DataNode:
    """A view of some consecutive frames of the only clip."""
    view = config.video.local_view
    some = fn.slice(clips[0], start=integer(f"{name}.first_frame"), shape=view.frames, axes=[0])
    return video_view(some, name, view)


def video_view(frames: DataNode, name: str, view: VideoView) -> DataNode:
    """One view, uint8 FHWC: crop and flip (by a crop from right to left), RandAugment, blur."""
    pixels = fn.resize(
        frames,
        roi_start=vector(f"{name}.roi_start"),
        roi_end=vector(f"{name}.roi_end"),
        roi_relative=True,
        size=[view.size, view.size],
    )
    if view.rand_augment.ops:
        drawn = {part: integers(f"{name}.{part}") for part in ("operation", "magnitude", "negative")}
        pixels = apply_policy(pixels, view.rand_augment, view.size, **drawn)
    if view.blur:
        pixels = blurred(pixels, number(f"{name}.sigma"))
    return pixels


def blurred(pixels: DataNode, sigma: DataNode) -> DataNode:
    """An isotropic gaussian blur of the examples whose sigma is not 0."""
    if sigma > 0:
        pixels = fn.gaussian_blur(pixels, sigma=sigma)
    return pixels


def global_audio_view(waveform: DataNode, name: str, place: int, config: ExampleConfig) -> DataNode:
    """Log-mel of a whole clip."""
    if config.clips > 1:
        waveform = fn.slice(waveform, start=place * config.clip_samples, shape=config.clip_samples, axes=[0])
    return log_mel(loudness(waveform, name), config.audio)


def local_audio_view(waveform: DataNode, name: str, place: int, config: ExampleConfig) -> DataNode:
    """Log-mel of a stretch of the clip."""
    stretch = fn.slice(waveform, start=integer(f"{name}.first_sample"), shape=config.local_samples, axes=[0])
    return log_mel(loudness(stretch, name), config.audio)


def loudness(waveform: DataNode, name: str) -> DataNode:
    """The int16 waveform as float, in [-1, 1] times the drawn volume."""
    return waveform * (number(f"{name}.volume") * PCM_SCALE)


def number(name: str) -> DataNode:
    """A float32 parameter of each example."""
    return fn.external_source(name=name, dtype=types.FLOAT, ndim=0)


def integer(name: str) -> DataNode:
    """An int32 parameter of each example."""
    return fn.external_source(name=name, dtype=types.INT32, ndim=0)


def integers(name: str) -> DataNode:
    """An int32 vector parameter of each example."""
    return fn.external_source(name=name, dtype=types.INT32, ndim=1)


def vector(name: str) -> DataNode:
    """A float32 vector parameter of each example."""
    return fn.external_source(name=name, dtype=types.FLOAT, ndim=1)
