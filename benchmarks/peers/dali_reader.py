"""A DALI pipeline that reads with fn.readers.webdataset and draws with fn.random, as its documentation shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from nvidia.dali import Pipeline, fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

from xkd.benchmarks.peers.torch_views import resize_crop
from xkd.benchmarks.peers.work import Epoch, Views, Work, recolours
from xkd.pipelines.config import VideoConfig, VideoView
from xkd.pipelines.views.spectrogram import log_mel


@contextmanager
def webdataset(work: Work) -> Iterator[Epoch]:
    stride = next(iter(work.clips(0).values())).frames.step
    threads = {"num_threads": work.data.pipeline_threads, "device_id": None, "prefetch_queue_depth": 1}
    pipeline = graph(work.data, work.tars, stride, batch_size=work.batch_size, **threads)
    pipeline.build()
    yield Epochs(work, pipeline)


@dataclass
class Epochs:
    """The batches of an epoch, in stored order; the reader goes on where it was."""

    work: Work
    pipeline: Pipeline
    position: int = field(default=0, init=False)

    def __call__(self, number: int) -> Iterator[Views]:
        torch.manual_seed(number)
        clips, size = list(self.work.clips(number).values()), self.work.batch_size
        steps, ahead = len(clips) // size, self.work.data.prefetch
        for step in range(steps + ahead):
            if step < steps:
                some = [clips[(self.position + place) % len(clips)] for place in range(size)]
                self.pipeline.feed_input("first_frame", np.array([clip.frames.start for clip in some], np.int32))
                self.pipeline.feed_input("first_sample", np.array([clip.samples.start for clip in some], np.int32))
                self.pipeline.schedule_run()
                self.position += size
            if step >= ahead:
                yield self._take()

    def _take(self) -> Views:
        data = self.work.data
        local = {"video_local": data.video.local_view.count, "audio_local": data.audio.local_view.count}
        names = ["video_global", "audio_global", *(name for name, count in local.items() if count)]
        outputs = self.pipeline.share_outputs()
        views = {name: torch.from_dlpack(output.as_tensor()) for name, output in zip(names, outputs, strict=True)}
        self.pipeline.release_outputs()
        views["audio_global"] = views["audio_global"].unsqueeze(1)
        if "audio_local" in views:
            views["audio_local"] = self._local_sound(views["audio_local"])
        return views

    def _local_sound(self, spectrograms_BLFS: torch.Tensor) -> torch.Tensor:
        """With the random resize crop, which DALI's cubic resize is not exact enough for."""
        views_BL1FS = spectrograms_BLFS.unsqueeze(2)
        if not self.work.data.audio.local_view.resize_crop:
            return views_BL1FS
        return torch.stack([resize_crop(view) for view in views_BL1FS.flatten(0, 1)]).unflatten(0, views_BL1FS.shape[:2])


@pipeline_def(enable_conditionals=True, exec_dynamic=True)
def graph(config, tars, stride):
    video, wav = fn.readers.webdataset(
        paths=[str(tar) for tar in tars],
        index_paths=[str(tar.with_suffix(".idx")) for tar in tars],
        ext=["mp4", "wav"],
        missing_component_behavior="error",
    )
    start = fn.external_source(name="first_frame", dtype=types.INT32, ndim=0)
    frames = fn.decoders.video(video, start_frame=start, stride=stride, sequence_length=config.num_frames)
    sound, _ = fn.decoders.audio(wav, dtype=types.FLOAT, downmix=True)
    first = fn.external_source(name="first_sample", dtype=types.INT32, ndim=0)
    waveform = fn.slice(sound, start=first, shape=config.clip_samples, axes=[0])

    audio, local_video, local_audio = config.audio, config.video.local_view, config.audio.local_view
    outputs = [
        video_view(frames, config.video.global_view, config.video),
        log_mel(waveform * around(1, audio.global_view.volume), audio),
    ]
    if local_video.count:
        starts = [integer(config.num_frames - local_video.frames + 1) for _ in range(local_video.count)]
        cut = [fn.slice(frames, start=start, shape=local_video.frames, axes=[0]) for start in starts]
        outputs.append(fn.stack(*[video_view(some, local_video, config.video) for some in cut]))
    if local_audio.count:
        starts = [100 * integer((config.clip_samples - config.local_samples) // 100 + 1) for _ in range(local_audio.count)]
        cut = [fn.slice(waveform, start=start, shape=config.local_samples, axes=[0]) for start in starts]
        outputs.append(fn.stack(*[log_mel(some * around(1, local_audio.volume), audio) for some in cut]))
    return tuple(outputs)


def video_view(frames: DataNode, view: VideoView, video: VideoConfig) -> DataNode:
    """One random, normalised view, float32 CFHW."""
    pixels = fn.random_resized_crop(frames, size=[view.size, view.size], random_area=view.scale, random_aspect_ratio=view.ratio)
    if recolours(view) or view.gray:
        pixels = fn.color_twist(
            pixels,
            brightness=around(1, view.brightness),
            contrast=around(1, view.contrast),
            saturation=around(1, view.saturation) * (1 - fn.random.coin_flip(probability=view.gray)),
            hue=around(0, 360 * view.hue),
            dtype=types.FLOAT,
        )
    if view.blur:
        pixels = blurred(pixels, view)
    return fn.crop_mirror_normalize(
        pixels,
        dtype=types.FLOAT,
        output_layout="CFHW",
        mirror=fn.random.coin_flip(probability=view.flip),
        mean=[255 * value for value in video.mean],
        std=[255 * value for value in video.std],
    )


def blurred(pixels: DataNode, view: VideoView) -> DataNode:
    if fn.random.coin_flip(probability=view.blur, dtype=types.BOOL):
        pixels = fn.gaussian_blur(pixels, sigma=fn.random.uniform(range=view.blur_sigma))
    return pixels


def around(middle: float, width: float) -> DataNode | float:
    """A number within `width` of the middle."""
    return fn.random.uniform(range=[middle - width, middle + width]) if width else middle


def integer(count: int) -> DataNode:
    """A number in range(count)."""
    return fn.cast(fn.random.uniform(values=list(range(count))), dtype=types.INT32)
