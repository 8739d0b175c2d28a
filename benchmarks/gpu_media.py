"""Makes and reads a small folder of test media: the same clips in several codecs and sizes, their frames as JPEG, and a shard.

Making it needs PyAV, reading it does not: make it where PyAV is, and take the folder (some 10 MB) to the machine to be measured.
A window moves over the two photographs that scikit-learn brings, under fresh grain, so that detail, motion and bytes are like
those of real clips.
"""

import argparse
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

DESCRIPTION, SHARDS = "media.json", "shards"
FORMAT = 2
NUM_FRAMES = 32
FPS = 8
GOP = 8
SIZES = {128: (128, 176), 256: (256, 352)}  # short side: (height, width)
SHARD_CODEC, SHARD_SIDE = "vp9", 128
GRAIN = 3.0
_ENCODERS = {
    "vp9": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0", "lag-in-frames": "0"}),
    "h264": ("libx264", "yuv420p", {"preset": "veryfast", "crf": "23", "bf": "0"}),
    "hevc": (
        "libx265",
        "yuv420p",
        {"preset": "fast", "crf": "26", "x265-params": "log-level=error:open-gop=0:bframes=0:pools=none"},
    ),
    "mjpeg": ("mjpeg", "yuvj420p", {"qmin": "4", "qmax": "4"}),
}
CODECS = tuple(_ENCODERS)


@dataclass(frozen=True)
class MediaSet:
    """A folder that `write` made."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "MediaSet":
        media = cls(Path(folder))
        if not (media.folder / DESCRIPTION).is_file():
            raise ValueError(
                f"{folder}: holds no {DESCRIPTION}: make the media with `python -m xkd.benchmarks.gpu_media --out {folder}`"
            )
        if media.description["format"] != FORMAT:
            raise ValueError(f"{folder}: is of format {media.description['format']}, not {FORMAT}: make it again")
        return media

    @cached_property
    def description(self) -> dict:
        return json.loads((self.folder / DESCRIPTION).read_text())

    @property
    def num_frames(self) -> int:
        return self.description["frames"]

    @property
    def shards(self) -> Path:
        """A shard set of one shard that holds each clip once. Raises ValueError where its codec and size were not made."""
        self.videos(SHARD_CODEC, SHARD_SIDE)
        return self.folder / SHARDS

    def videos(self, codec: str, short_side: int) -> list[np.ndarray]:
        """The encoded mp4 files, as bytes. Raises ValueError for a codec that was not made, with the reason."""
        if codec not in self.description["codecs"]:
            raise ValueError(f"{self.folder}: holds no {codec}: {self.description['not_made'].get(codec, 'it was not asked for')}")
        if str(short_side) not in self.description["sizes"]:
            raise ValueError(f"{self.folder}: holds no clips of short side {short_side}: they were not asked for")
        names = [_name(codec, short_side, clip) for clip in range(self.description["clips"])]
        return [np.fromfile(self.folder / name, np.uint8) for name in names]

    def pictures(self, short_side: int) -> list[list[np.ndarray]]:
        """The JPEG file of each frame of each clip: slices of the mjpeg videos."""
        spans = self.description["jpeg_spans"][str(short_side)]
        return [
            [video[begin:end] for begin, end in clip] for video, clip in zip(self.videos("mjpeg", short_side), spans, strict=True)
        ]


def write(folder: Path, *, clips: int = 8, sizes: Sequence[int] = tuple(SIZES), codecs: Sequence[str] = CODECS) -> MediaSet:
    """Encodes `clips` clips; codecs whose encoder PyAV lacks are left out, and the description says so. Needs PyAV."""
    import av

    folder, not_made, spans = Path(folder), {}, {}
    for codec in codecs:
        if not _has_encoder(codec):
            not_made[codec] = f"PyAV {av.__version__} has no {_ENCODERS[codec][0]}"
            continue
        for short_side in sizes:
            (folder / f"{codec}-{short_side}").mkdir(parents=True, exist_ok=True)
            for clip in range(clips):
                video, packets = encode(frames(clip, *SIZES[short_side]), codec)
                (folder / _name(codec, short_side, clip)).write_bytes(video)
                if codec == "mjpeg":
                    spans.setdefault(str(short_side), []).append(_spans(video, packets))
    description = {
        "format": FORMAT,
        "clips": clips,
        "frames": NUM_FRAMES,
        "fps": FPS,
        "gop": GOP,
        "sizes": {short_side: SIZES[short_side] for short_side in sizes},
        "codecs": {codec: _ENCODERS[codec] for codec in codecs if codec not in not_made},
        "not_made": not_made,
        "av": av.__version__,
        "jpeg_spans": spans,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description))
    media = MediaSet.open(folder)
    if SHARD_CODEC in description["codecs"] and SHARD_SIDE in sizes:
        _write_shard(media)
    return media


def _write_shard(media: MediaSet) -> None:
    """Puts the clips, with noise for sound, into one shard."""
    from xkd.benchmarks.random_shards import CLASSES, PROFILE, noise_wav, write_samples
    from xkd.pipelines.convert.sample import Converted

    bits, rate = np.random.Generator(np.random.PCG64(0)), PROFILE.audio.sample_rate
    videos, folder = media.videos(SHARD_CODEC, SHARD_SIDE), media.folder / SHARDS
    length, shape = media.num_frames * rate // FPS, (media.num_frames, *SIZES[SHARD_SIDE])

    def sample(number: int) -> Converted:
        sound = noise_wav(bits, length)
        return Converted(f"clip-{number:06d}", CLASSES, videos[number].tobytes(), sound, b"{}", *shape, length, rate)

    shutil.rmtree(folder, ignore_errors=True)
    write_samples(folder, map(sample, range(len(videos))), num_samples=len(videos), shard_samples=len(videos))


def frames(clip: int, height: int, width: int) -> np.ndarray:
    """The frames of a clip [NUM_FRAMES, height, width, 3], uint8, a pure function of its arguments."""
    rng = np.random.Generator(np.random.Philox(key=clip))
    clean = list(moving_window(clip, rng, NUM_FRAMES, height, width))
    grain = rng.normal(0, GRAIN, (NUM_FRAMES, height, width, 3))
    return np.clip(np.rint(np.stack(clean) + grain), 0, 255).astype(np.uint8)


def moving_window(clip: int, rng: np.random.Generator, num_frames: int, height: int, width: int) -> Iterator[np.ndarray]:
    """A window's way over one of the photographs, from one random place to another: frames [height, width, 3], float32."""
    photo = _photographs()[clip % 2]
    begin, end = rng.uniform(0, 1, (2, 3))
    return (_window(photo, begin + (end - begin) * time, height, width) for time in np.linspace(0, 1, num_frames))


def encode(pictures: np.ndarray, codec: str) -> tuple[bytes, list[bytes]]:
    """The mp4 file of RGB frames [T, H, W, 3], and its packets in order."""
    import av

    encoder, pixel_format, options = _ENCODERS[codec]
    buffer, packets = io.BytesIO(), []
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], pixel_format
        stream.options = {**options, "g": str(GOP), "keyint_min": str(GOP), "threads": "1"}
        coded = [av.VideoFrame.from_ndarray(picture, "rgb24") for picture in pictures]
        for index, frame in enumerate(coded):
            frame.pts, frame.time_base = index, Fraction(1, FPS)
        for frame in (*coded, None):
            for packet in stream.encode(frame):
                packets.append(bytes(packet))
                container.mux(packet)
    return buffer.getvalue(), packets


def _spans(video: bytes, packets: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where each packet lies in the file: (begin, end)."""
    spans, end = [], 0
    for packet in packets:
        begin = video.index(packet, end)
        end = begin + len(packet)
        spans.append((begin, end))
    return spans


def _photographs():
    from PIL import Image
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(photo) for photo in load_sample_images().images]


def _window(photo, place, height, width):
    """The part of the photograph at `place` (left, top, zoom, each in 0 to 1), resized to height x width."""
    left, top, zoom = place
    window_height = photo.height * (0.35 + 0.45 * zoom)
    window_width = min(window_height * width / height, photo.width)
    window_height = window_width * height / width
    left, top = left * (photo.width - window_width), top * (photo.height - window_height)
    return np.asarray(photo.resize((width, height), box=(left, top, left + window_width, top + window_height)), np.float32)


def _has_encoder(codec):
    import av

    try:
        av.codec.Codec(_ENCODERS[codec][0], "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _name(codec, short_side, clip):
    return f"{codec}-{short_side}/{clip:03d}.mp4"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m xkd.benchmarks.gpu_media", description="Make the media that gpu_check decodes."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--clips", type=int, default=8, help="different clips of each codec and size (default 8)")
    options = parser.parse_args(arguments)
    media = write(options.out, clips=options.clips)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    codecs = ", ".join(media.description["codecs"])
    print(f"{options.out}: {options.clips} clips in {codecs}, {len(SIZES)} sizes, {size / 1e6:.1f} MB")
    for codec, reason in media.description["not_made"].items():
        print(f"{codec} not made: {reason}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
