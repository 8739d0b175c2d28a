"""Writes shards of given samples, or of random bytes behind the index of an mp4 for those who do not decode what they read."""

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from xkd.pipelines.convert.profiles import PROFILES
from xkd.pipelines.convert.sample import Converted
from xkd.pipelines.convert.shard import ShardWriter, write_durably
from xkd.pipelines.media.encode import encode_wav
from xkd.pipelines.shards.manifest import FORMAT, MANIFEST, Completeness, Manifest, Settings, Source, totals

CLASSES = ("noise",)
PROFILE = PROFILES["pretrain"]
SIDE = 128


def write_random_shards(folder: Path, *, samples: int, shard_samples: int, video_bytes: int, seconds: float) -> Path:
    """A shard folder whose samples say that they are clips of so many seconds; returns it."""
    bits = np.random.Generator(np.random.PCG64(0))
    frames, length = round(seconds * PROFILE.video.fps), round(seconds * PROFILE.audio.sample_rate)

    def sample(number: int) -> Converted:
        sound = noise_wav(bits, length)
        video = noise_mp4(bits, video_bytes, frames)
        rate = PROFILE.audio.sample_rate
        return Converted(f"noise-{number:06d}", CLASSES, video, sound, b"{}", frames, SIDE, SIDE, length, rate)

    return write_samples(folder, map(sample, range(samples)), num_samples=samples, shard_samples=shard_samples)


def write_samples(folder: Path, samples: Iterator[Converted], *, num_samples: int, shard_samples: int) -> Path:
    """A shard folder of samples in the form of the profile `pretrain`, of one class; returns it."""
    folder.mkdir(parents=True)
    records = []
    for begin in range(0, num_samples, shard_samples):
        with ShardWriter(folder, f"train-{len(records):06d}", PROFILE, CLASSES) as writer:
            for sample in islice(samples, min(shard_samples, num_samples - begin)):
                writer.add(sample)
            records.append(writer.finish(begin))
    settings = Settings(
        dataset="folder",
        split="train",
        streams="both",
        profile=PROFILE,
        limit=None,
        shuffle=None,
        shard_samples=shard_samples,
        shard_bytes=2**40,
        part=None,
        source_identity="0" * 32,
    )
    manifest = Manifest(
        format=FORMAT,
        name="noise",
        settings=settings,
        source=Source(name="noise", num_items=num_samples, num_bytes=0),
        completeness=Completeness(
            official=None, official_classes=None, listed=None, present=num_samples, unlisted=0, converted=num_samples, failed=0
        ),
        classes=CLASSES,
        num_folds=0,
        versions={},
        **totals(records, PROFILE, len(CLASSES)),
    )
    write_durably(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
    return folder


def noise_wav(bits: np.random.Generator, length: int) -> bytes:
    """So many random samples of sound."""
    return encode_wav(bits.integers(-(2**15), 2**15, length, np.int16), PROFILE.audio.sample_rate)


def noise_mp4(bits: np.random.Generator, size: int, frames: int) -> bytes:
    """An mp4 of so many bytes whose index lists frames of random bytes; each has 1 byte at least."""
    pictures = box(b"vp09", bytes(24) + struct.pack(">HH", SIDE, SIDE) + bytes(50))

    def index(frame_bytes: int, begin: int) -> bytes:
        tables = (
            box(b"stsd", struct.pack(">II", 0, 1) + pictures),
            box(b"stsz", struct.pack(">III", 0, frame_bytes, frames)),
            box(b"stsc", struct.pack(">IIIII", 0, 1, 1, frames, 1)),
            box(b"stco", struct.pack(">III", 0, 1, begin)),
        )
        content = b"".join(tables)
        for name in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
            content = box(name, content)
        return content

    begin = len(index(0, 0)) + 8
    frame_bytes = (size - begin) // frames
    assert frame_bytes > 0, size
    return index(frame_bytes, begin) + box(b"mdat", bits.bytes(size - begin))


def box(name: bytes, content: bytes) -> bytes:
    """A box of an mp4."""
    return struct.pack(">I4s", 8 + len(content), name) + content
