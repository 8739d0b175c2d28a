"""Reads a media file as `xkd shards write` does, without encoding it again."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch
from torch import Tensor

from xkd.encoder.description import StoredFrames
from xkd.model.config import Modality
from xkd.pipelines.media.container import MediaError
from xkd.pipelines.media.decode import open_pictures, read_sound

# How DALI's decoder makes RGB of it, to the level; the faster way that PyAV takes unasked is a level too dark.
TO_RGB = (("scale", "flags=bilinear+accurate_rnd+full_chroma_int:in_color_matrix=bt601:in_range=tv"), ("format", "rgb24"))


@dataclass(frozen=True)
class _File:
    path: Path

    def open(self) -> BinaryIO:
        return self.path.open("rb")


def read_media(path: Path, streams: Collection[Modality], stored: StoredFrames, sample_rate: int) -> dict[Modality, Tensor]:
    """A file's frames, uint8 [T, H, W, 3] at `stored.fps`, and its sound from the first of them on, int16 [samples].

    Raises ValueError where the file cannot be read or lacks a stream that is asked for.
    """
    file, found, where = _File(path), {}, {}
    try:
        if "video" in streams:
            with open_pictures(file, **stored.model_dump()) as pictures:
                found["video"] = rgb(pictures.frames)
                seconds = Fraction(len(found["video"]), stored.fps)
                where = {"start_seconds": pictures.start_seconds, "max_samples": int(seconds * sample_rate)}
        if "audio" in streams:
            found["audio"] = torch.from_numpy(read_sound(file, sample_rate=sample_rate, **where)[0])
    except MediaError as error:
        raise ValueError(f"{path}: {error}") from error
    return found


def rgb(frames: Iterable[av.VideoFrame]) -> Tensor:
    """Frames of one size, yuv420p in BT.601 limited range, as uint8 [T, H, W, 3]."""
    graph, last, converted = None, None, []
    for frame in frames:
        if graph is None:
            graph = _graph(frame)
        if frame is not last:  # a frame that is shown for longer comes again
            graph.push(frame)
            last, pixels = frame, graph.pull().to_ndarray()
        converted.append(pixels)
    return torch.from_numpy(np.stack(converted))


def _graph(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, av.time_base))
    graph.link_nodes(source, *(graph.add(*step) for step in TO_RGB), graph.add("buffersink")).configure()
    return graph
