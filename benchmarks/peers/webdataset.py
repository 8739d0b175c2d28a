"""Loaders of the webdataset library, with decoders of torchcodec or PyAV, and views of torchvision and torchaudio."""

import io
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from xkd.benchmarks.peers.work import Clip, Epoch, Views, Work

Decoder = Callable[[bytes, Clip, int], torch.Tensor]


@contextmanager
def torchcodec(work: Work) -> Iterator[Epoch]:
    yield partial(epoch, work, decode_with_torchcodec)


@contextmanager
def pyav(work: Work) -> Iterator[Epoch]:
    yield partial(epoch, work, decode_with_pyav)


def epoch(work: Work, decode: Decoder, number: int) -> Iterator[Views]:
    """The batches of an epoch, in stored order; a shuffle would cost next to nothing."""
    import webdataset

    from xkd.benchmarks.peers.torch_views import TorchViews

    torch.manual_seed(number)
    make = partial(example, work.clips(number), work.shard_set.manifest.video.fps, decode, TorchViews(work.data))
    files = webdataset.WebDataset([str(tar) for tar in work.tars], shardshuffle=False, empty_check=False)
    batches = files.map(make).batched(work.batch_size, collation_fn=stacked, partial=False)
    return iter(webdataset.WebLoader(batches, batch_size=None, num_workers=work.workers))


def example(clips: dict[str, Clip], fps: int, decode: Decoder, views: Callable, sample: dict) -> Views:
    clip = clips[sample["__key__"]]
    frames_TCHW = decode(sample["mp4"], clip, fps)
    with wave.open(io.BytesIO(sample["wav"])) as file:
        file.setpos(clip.samples.start)
        sound = np.frombuffer(file.readframes(len(clip.samples)), np.int16)
    return views(frames_TCHW, torch.from_numpy(sound.copy()))


def stacked(examples: list[Views]) -> Views:
    """A batch; webdataset puts the key beside the views."""
    return {name: torch.stack([views[name] for views in examples]) for name in examples[0] if name != "__key__"}


def decode_with_torchcodec(video: bytes, clip: Clip, fps: int) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(video, num_ffmpeg_threads=1, seek_mode="approximate")
    return decoder.get_frames_in_range(clip.frames.start, clip.frames.stop, clip.frames.step).data


def decode_with_pyav(video: bytes, clip: Clip, fps: int) -> torch.Tensor:
    import av

    frames = []
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(round(clip.frames.start / fps / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if round(frame.pts * stream.time_base * fps) in clip.frames:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == len(clip.frames):
                break
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
