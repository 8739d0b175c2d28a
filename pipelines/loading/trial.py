"""Decodes a tiny video of each codec as the loader does, to see whether this machine can."""

from collections.abc import Iterator
from contextlib import ExitStack

import av
import numpy as np
from nvidia.dali import Pipeline, fn, types

from xkd.pipelines.loading.lanes import cause
from xkd.pipelines.media.encode import CODECS, encode_video
from xkd.pipelines.views.graph import DEVICES

DECODES = {"cpu": ("vp9", "mjpeg"), "gpu": ("vp9", "h264", "hevc")}  # by device, what DALI decodes
HEIGHT, WIDTH = 160, 192  # NVDEC has least sizes: 144x144 for HEVC
LEVELS = tuple(range(40, 220, 20))  # the grey of each frame
NEAR = 8  # levels that a frame's mean may be off: codecs round, and so do the ways to RGB


def decode_fault(codec: str, device: str) -> str | None:
    """What is wrong with DALI's decoding of `tiny_video(codec)`, on the `cpu` or the current `gpu`; None where all is right."""
    try:
        return fault(decoded(tiny_video(codec), device))
    except RuntimeError as error:
        return cause(str(error))


def tiny_video(codec: str) -> bytes:
    """An mp4 file of one grey frame for each of LEVELS."""
    form = {"fps": 8, "gop": 4, "quality": CODECS[codec].quality, "height": HEIGHT, "width": WIDTH}
    return encode_video(_pictures(), codec=codec, **form)[0]


def decoded(video: bytes, device: str) -> np.ndarray:
    """The frames [T, H, W, 3] of a file, uint8 RGB. Raises RuntimeError where DALI fails."""
    place = DEVICES[device]
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=place.id, prefetch_queue_depth=1)
    with pipeline:
        encoded = fn.external_source(name="video", dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.video(encoded, device=place.decoder, affine=False))
    pipeline.build()
    with ExitStack() as ending:
        ending.callback(pipeline._shutdown)  # its threads, which a traceback might keep
        pipeline.feed_input("video", [np.frombuffer(video, np.uint8)])
        (frames,) = pipeline.run()
        return np.array(frames.as_cpu().at(0))


def fault(frames: np.ndarray) -> str | None:
    """How frames differ from those that `tiny_video` was made of; None where they do not."""
    if frames.shape != (expected := (len(LEVELS), HEIGHT, WIDTH, 3)):
        return f"the frames have shape {frames.shape}, not {expected}"
    means = frames.mean((1, 2, 3))
    wrong = np.flatnonzero(np.abs(means - LEVELS) > NEAR)
    return f"frame {wrong[0]} has grey {means[wrong[0]]:.0f}, not {LEVELS[wrong[0]]}" if len(wrong) else None


def _pictures() -> Iterator[av.VideoFrame]:
    for level in LEVELS:
        yield av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8), format="rgb24").reformat(format="yuv420p")
