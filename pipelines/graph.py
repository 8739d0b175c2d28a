"""The DALI graph: one decode of just the frames needed, every view cut from it, spectrograms beside; the same for CPU and GPU.

Colour jitter is DALI's color_twist: exactly affine, not clamped, hue and saturation first, then contrast about mid-grey, then
brightness. (The method draws the order of the four; one fixed order keeps the jitter a single matrix a view.) It commutes with
greying, so a grey view is one of saturation 0.
"""

from dataclasses import dataclass

import torch
from nvidia.dali import Pipeline, fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

from xkd.pipelines.config import DataConfig, VideoConfig, VideoView
from xkd.pipelines.spectrogram import log_mel

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


def output_names(config: DataConfig) -> tuple[str, ...]:
    """The outputs of the graph, in order: views that exist once, then the stacked local ones that the configuration asks for."""
    local = {"video_local": config.video.local_view.count, "audio_local": config.audio.local_view.count}
    return ("video_global", "audio_global", *(name for name, count in local.items() if count))


def build_graph(config: DataConfig, *, batch_size: int, device: str) -> Pipeline:
    """A built pipeline whose inputs are fed by name and whose outputs are `output_names(config)`; executor.py runs it.

    The queue depth of 1 is no limit: it only lets the first `schedule_run` start one batch, as every later one does, so that the
    caller alone decides how many batches are under way.
    """
    place = DEVICES[device]
    pipeline = _graph(
        config, place, batch_size=batch_size, num_threads=config.num_threads, device_id=place.id, prefetch_queue_depth=1
    )
    pipeline.build()
    return pipeline


@pipeline_def(enable_conditionals=True, exec_dynamic=True)
def _graph(config, device):
    frames = decoded_frames(config, device)
    waveform = device.put(fn.external_source(name="pcm", dtype=types.INT16, ndim=1))
    outputs = [
        video_view(frames, "video_global", config.video.global_view, config.video),
        log_mel(loudness(waveform, "audio_global"), config.audio),
    ]
    local_video = [local_video_view(frames, f"video_local{k}", config) for k in range(config.video.local_view.count)]
    local_audio = [local_audio_view(waveform, f"audio_local{k}", config) for k in range(config.audio.local_view.count)]
    return (*outputs, *[fn.stack(*views) for views in (local_video, local_audio) if views])


def decoded_frames(config: DataConfig, device: Device) -> DataNode:
    """The clip's frames, FHWC uint8. Frame numbers may repeat or turn back: a clip longer than its video starts again."""
    video = fn.external_source(name="video", dtype=types.UINT8, ndim=1)
    numbers = fn.external_source(name="frames", dtype=types.INT32, ndim=1)
    frames = fn.decoders.video(video, device=device.decoder, frames=numbers)
    if config.crop_from == "resized":
        frames = fn.resize(frames, resize_shorter=config.video.global_view.size)
    return frames


def local_video_view(frames: DataNode, name: str, config: DataConfig) -> DataNode:
    """A view of some consecutive frames."""
    view = config.video.local_view
    some = fn.slice(frames, start=integer(f"{name}.first_frame"), shape=view.frames, axes=[0])
    return video_view(some, name, view, config.video)


def video_view(frames: DataNode, name: str, view: VideoView, video: VideoConfig) -> DataNode:
    """One normalised view, float32 CFHW: crop and flip (by a crop from right to left), colour, blur, normalise."""
    pixels = fn.resize(
        frames,
        roi_start=vector(f"{name}.roi_start"),
        roi_end=vector(f"{name}.roi_end"),
        roi_relative=True,
        size=[view.size, view.size],
    )
    if view.recolours:
        pixels = fn.color_twist(
            pixels,
            brightness=number(f"{name}.brightness"),
            contrast=number(f"{name}.contrast"),
            saturation=number(f"{name}.saturation"),
            hue=number(f"{name}.hue"),
            dtype=types.FLOAT,
        )
    if view.blur:
        pixels = blurred(pixels, number(f"{name}.sigma"))
    return fn.crop_mirror_normalize(
        pixels,
        dtype=types.FLOAT,
        output_layout="CFHW",
        mean=[255 * value for value in video.mean],
        std=[255 * value for value in video.std],
    )


def blurred(pixels: DataNode, sigma: DataNode) -> DataNode:
    """An isotropic gaussian blur of the examples whose sigma is not 0."""
    if sigma > 0:
        pixels = fn.gaussian_blur(pixels, sigma=sigma)
    return pixels


def local_audio_view(waveform: DataNode, name: str, config: DataConfig) -> DataNode:
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


def vector(name: str) -> DataNode:
    """A float32 vector parameter of each example."""
    return fn.external_source(name=name, dtype=types.FLOAT, ndim=1)
