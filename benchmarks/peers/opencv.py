"""A plain loader written by hand: positioned reads, torchcodec, OpenCV for the pictures, torchaudio for the sound.

All that is done to a view's colours is one affine map of RGB (contrast about mid-grey, hue and saturation in YIQ), with the
normalisation in it: the least work that OpenCV can do for it.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, reduce

import numpy as np
import torch

from xkd.benchmarks.peers.webdataset import decode_with_torchcodec, stacked
from xkd.benchmarks.peers.work import Epoch, Views, Work
from xkd.pipelines.config import DataConfig, VideoConfig, VideoView

YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
MID_GREY = 128
BLUR_KERNEL_SHARE = 0.1  # of the view's side, the usual choice
CROP_TRIES = 10


@contextmanager
def torchcodec(work: Work) -> Iterator[Epoch]:
    yield partial(epoch, work)


def epoch(work: Work, number: int) -> Iterator[Views]:
    """The batches of an epoch, in stored order."""
    import cv2

    from xkd.benchmarks.peers.torch_views import SoundViews

    cv2.setNumThreads(torch.get_num_threads())
    torch.manual_seed(number)
    examples = Examples(work, number, SoundViews(work.data))
    yield from torch.utils.data.DataLoader(
        examples, batch_size=work.batch_size, collate_fn=stacked, drop_last=True, num_workers=work.workers
    )


class Examples(torch.utils.data.Dataset):
    def __init__(self, work: Work, number: int, sound_views):
        self._samples, self._clips = work.samples, work.clips(number)
        self._fps, self._config, self._sound_views = work.shard_set.manifest.video.fps, work.data, sound_views
        self._rng = np.random.default_rng(number)
        self._files = {tar: os.open(tar, os.O_RDONLY) for tar in {sample.shard for sample in self._samples}}

    def __del__(self):
        for descriptor in self._files.values():
            os.close(descriptor)

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, index: int) -> Views:
        sample = self._samples[index]
        clip, file = self._clips[sample.key], self._files[sample.shard]
        video = os.pread(file, sample.video.size, sample.video.offset)
        pcm = os.pread(file, 2 * len(clip.samples), sample.audio.offset + 2 * clip.samples.start)
        frames_TCHW = decode_with_torchcodec(video, clip, self._fps)
        sound = torch.from_numpy(np.frombuffer(pcm, "<i2").copy())
        return video_views(frames_TCHW.permute(0, 2, 3, 1).numpy(), self._config, self._rng) | self._sound_views(sound)


def video_views(frames_THWC: np.ndarray, config: DataConfig, rng: np.random.Generator) -> Views:
    local = config.video.local_view
    views = {"video_global": video_view(frames_THWC, config.video.global_view, config.video, rng)}
    if local.count:
        starts = rng.integers(config.num_frames - local.frames + 1, size=local.count)
        cut = [video_view(frames_THWC[start : start + local.frames], local, config.video, rng) for start in starts]
        views["video_local"] = torch.stack(cut)
    return views


def video_view(frames_THWC: np.ndarray, view: VideoView, video: VideoConfig, rng: np.random.Generator) -> torch.Tensor:
    """One random view [3, T, size, size], float32."""
    import cv2

    top, left, height, width = crop_box(frames_THWC.shape[1:3], view, rng)
    size = (view.size, view.size)
    flip, blur = rng.random() < view.flip, rng.random() < view.blur
    sigma = rng.uniform(*view.blur_sigma)
    kernel = (int(BLUR_KERNEL_SHARE * view.size) // 2 * 2 + 1,) * 2
    colour = colour_map(view, video, rng)
    how = cv2.INTER_AREA if min(height, width) > view.size else cv2.INTER_LINEAR
    pictures = []
    for frame in frames_THWC:
        picture = cv2.resize(frame[top : top + height, left : left + width], size, interpolation=how)
        picture = cv2.flip(picture, 1) if flip else picture
        picture = cv2.GaussianBlur(picture, kernel, sigma) if blur else picture
        pictures.append(cv2.transform(picture.astype(np.float32), colour))
    return torch.from_numpy(np.stack(pictures)).permute(3, 0, 1, 2)


def crop_box(shape: tuple[int, int], view: VideoView, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random crop (top, left, height, width), as torchvision draws it."""
    for _ in range(CROP_TRIES):
        area = shape[0] * shape[1] * rng.uniform(*view.scale)
        ratio = math.exp(rng.uniform(*np.log(view.ratio)))
        height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < height <= shape[0] and 0 < width <= shape[1]:
            return int(rng.integers(shape[0] - height + 1)), int(rng.integers(shape[1] - width + 1)), height, width
    ratio = min(max(shape[1] / shape[0], view.ratio[0]), view.ratio[1])
    height, width = min(shape[0], round(shape[1] / ratio)), min(shape[1], round(shape[0] * ratio))
    return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width


def colour_map(view: VideoView, video: VideoConfig, rng: np.random.Generator) -> np.ndarray:
    """The 3x4 matrix of a view's random colour jitter, in random order, and the normalisation."""
    brightness, contrast, saturation = (
        1 + rng.uniform(-width, width) for width in (view.brightness, view.contrast, view.saturation)
    )
    turn = 2 * np.pi * rng.uniform(-view.hue, view.hue)
    saturation = 0 if rng.random() < view.gray else saturation
    cos, sin = np.cos(turn), np.sin(turn)
    steps = [
        affine(brightness * np.eye(3)),
        affine(contrast * np.eye(3), MID_GREY * (1 - contrast)),
        affine(np.linalg.inv(YIQ) @ np.diag([1, saturation, saturation]) @ YIQ),
        affine(np.linalg.inv(YIQ) @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ YIQ),
    ]
    normalisation = affine(np.diag(1 / (255 * np.array(video.std))), -np.array(video.mean) / np.array(video.std))
    return reduce(np.matmul, [normalisation, *(steps[place] for place in rng.permutation(4))])[:3]


def affine(matrix: np.ndarray, offset=0) -> np.ndarray:
    """A map of colours as a 4x4 matrix."""
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = matrix, offset
    return whole
