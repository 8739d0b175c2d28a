"""Says in words and numbers what a shard folder holds, from its manifest and sidecars."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from xkd.pipelines.convert.summary import describe_completeness
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.manifest import Manifest
from xkd.pipelines.shards.sidecar import ROLES

_NAME_WIDTH = 14


def describe(folder: str | Path) -> str:
    """Counts, hours, bytes, durations, sizes, codecs, completeness, folds, identity and classes; ValueError as ShardSet.open."""
    shards = ShardSet.open(folder)
    found = shards.manifest
    rows = {
        "shard set": f"{found.name}, split {found.split}, dataset {found.settings.dataset}{_part(found)}",
        "samples": f"{found.num_samples} in {len(found.shards)} shards, {found.num_bytes / 1e6:.1f} MB"
        f" ({found.num_bytes / max(1, found.num_samples) / 1e3:.1f} kB each)",
        **(_contents(shards) if found.num_samples else {}),  # a part may be empty
        "completeness": describe_completeness(found.completeness, len(found.classes)),
        "identity": found.identity,
        "made by": ", ".join(f"{name} {version}" for name, version in found.versions.items() if not name.startswith("lib")),
        "classes": _classes(found),
    }
    return "".join(f"{name:<{_NAME_WIDTH}}{text}\n" for name, text in rows.items() if text)


def _part(found: Manifest) -> str:
    return f", part {found.settings.part[0]} of {found.settings.part[1]}" if found.settings.part else ""


def _contents(shards: ShardSet) -> dict[str, str]:
    """What the sidecars say."""
    streams = ", ".join(f"{count} {name}" for name, count in _streams(shards))
    return {"streams": streams, **dict(_stream_rows(shards)), "folds": _folds(shards)}


def _streams(shards: ShardSet) -> Iterator[tuple[str, int]]:
    video, audio = shards.column("video_frames") > 0, shards.column("audio_samples") > 0
    counts = {"with both": video & audio, "with video only": video & ~audio, "with sound only": audio & ~video}
    return ((name, int(rows.sum())) for name, rows in counts.items() if rows.any())


def _stream_rows(shards: ShardSet) -> Iterator[tuple[str, str]]:
    """A row for each stream that any sample has."""
    found, video, audio = shards.manifest, shards.manifest.video, shards.manifest.audio
    frames, samples = shards.column("video_frames"), shards.column("audio_samples")
    if frames.any():
        sizes = Counter(zip(shards.column("video_width").tolist(), shards.column("video_height").tolist(), strict=True))
        del sizes[0, 0]
        shown = ", ".join(f"{width}x{height} ({count})" for (width, height), count in sizes.most_common())
        yield (
            "video",
            f"{found.video_seconds / 3600:.2f} h, {_spread(frames[frames > 0] / video.fps)};"
            f" {video.codec}, {video.fps} fps, a key frame every {video.gop}",
        )
        yield "sizes", shown
    if samples.any():
        yield (
            "sound",
            f"{found.audio_seconds / 3600:.2f} h, {_spread(samples[samples > 0] / audio.sample_rate)};"
            f" {audio.codec}, {audio.sample_rate} Hz, {audio.channels} channel",
        )


def _spread(seconds: np.ndarray) -> str:
    return f"{seconds.min():.2f} / {np.median(seconds):.2f} / {seconds.max():.2f} s (shortest / median / longest)"


def _folds(shards: ShardSet) -> str:
    """The number of samples in each role, for every fold."""
    if not shards.manifest.num_folds:
        return ""
    roles = shards.column("fold_roles")
    folds = [", ".join(f"{(fold == ROLES.index(role)).sum()} {role}" for role in ("train", "test")) for fold in roles.T]
    return "; ".join(f"{number}: {fold}" for number, fold in enumerate(folds, 1))


def _classes(found: Manifest) -> str:
    counts = found.class_samples
    width = len(str(max(counts)))
    lines = [f"{count:>{width}}  {name}" for name, count in zip(found.classes, counts, strict=True)]
    return "\n".join([f"{len(counts)}, of {min(counts)} to {max(counts)} samples", *(" " * _NAME_WIDTH + line for line in lines)])
