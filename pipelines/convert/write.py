"""Writes a split of a dataset as a shard folder."""

import hashlib
import json
import os
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path

import av
from tqdm import tqdm

from xkd.pipelines.convert.output import FAILURES, find_complete, start_over, write_failures, write_manifest
from xkd.pipelines.convert.profiles import PROFILES
from xkd.pipelines.convert.sample import Failure, convert
from xkd.pipelines.convert.shard import ShardWriter
from xkd.pipelines.convert.sources import SOURCES
from xkd.pipelines.convert.sources.item import Item
from xkd.pipelines.convert.workers import map_in_order
from xkd.pipelines.manifest import FORMAT, Manifest, Settings, ShardRecord


@dataclass(frozen=True)
class Summary:
    """What `write_shards` wrote, or found already written."""

    folder: Path
    manifest: Manifest
    already_complete: bool

    def __str__(self) -> str:
        found = self.manifest
        lines = [
            f"{self.folder}: {'already complete, ' if self.already_complete else ''}{found.num_samples} samples of"
            f" {len(found.classes)} classes in {len(found.shards)} shards, {found.num_bytes / 1e6:.1f} MB,"
            f" {found.video_seconds / 3600:.2f} h of video, {found.audio_seconds / 3600:.2f} h of audio"
        ]
        if found.num_failures:
            lines.append(f"{found.num_failures} files failed, see {self.folder / FAILURES}")
        return "\n".join(lines)


def write_shards(
    source: str | Path,
    out: str | Path,
    *,
    dataset: str = "folder",
    split: str,
    profile: str = "pretrain",
    workers: int | None = None,
    limit: int | None = None,
    shard_samples: int = 1000,
) -> Summary:
    """Convert one split of `source` into the folder `out`, with one worker process per usable core by default.

    The files written depend on the arguments and the source only, not on `workers`. Items are taken in the order of their names'
    hashes, so that classes spread over the shards and `limit` takes a fair sample. Files that fail are listed in failures.jsonl.
    What an unfinished run left in `out` is deleted. Raises ValueError for wrong arguments, if no file is healthy, or if `out` holds
    anything else than that or the finished result of the same call.
    """
    source, out = Path(source), Path(out)
    _check_arguments(source, dataset=dataset, profile=profile, workers=workers, limit=limit, shard_samples=shard_samples)
    listing = SOURCES[dataset](source, split)
    items = sorted(listing.items, key=lambda item: item.digest)[:limit]
    if not items:
        raise ValueError(f"{source}: split {split!r} holds no files; expected class folders of media files")
    settings = Settings(
        dataset=dataset,
        split=split,
        profile=PROFILES[profile],
        limit=limit,
        shard_samples=shard_samples,
        source_identity=_identity(listing.classes, items),
    )
    if complete := find_complete(out, settings):
        return Summary(out, complete, already_complete=True)
    start_over(out, settings)
    shards, failures = _write_all(out, items, settings, listing.classes, workers or len(os.sched_getaffinity(0)))
    write_failures(out, failures)
    if not shards:
        raise ValueError(f"{source}: not one of the {len(items)} files of split {split!r} could be converted; see {out / FAILURES}")
    manifest = _manifest(source.resolve().name, settings, listing.classes, shards, failures)
    write_manifest(out, manifest)
    return Summary(out, manifest, already_complete=False)


def _check_arguments(source: Path, **arguments) -> None:
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder; SOURCE is a folder of class folders of media files")
    for name, table in (("dataset", SOURCES), ("profile", PROFILES)):
        if arguments[name] not in table:
            raise ValueError(f"{name}: {arguments[name]!r} is not one of {', '.join(table)}")
    for name in ("workers", "limit", "shard_samples"):
        if arguments[name] is not None and arguments[name] < 1:
            raise ValueError(f"{name}: {arguments[name]} is not at least 1")


def _identity(classes: tuple[str, ...], items: list[Item]) -> str:
    """A checksum of what a source lists: its classes, and the names, sizes and labels of its files."""
    lines = [classes, *([item.name, item.path.lstat().st_size, item.labels] for item in items)]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _write_all(
    out: Path, items: list[Item], settings: Settings, classes: tuple[str, ...], workers: int
) -> tuple[list[ShardRecord], list[Failure]]:
    """Convert the items, each `shard_samples` of which go to one shard, whether or not all of them succeed."""
    shards, failures = [], []
    with (
        closing(map_in_order(partial(convert, profile=settings.profile), items, workers)) as results,
        tqdm(results, total=len(items), unit="clip", desc=f"shards {settings.split}", mininterval=1) as progress,
    ):
        shown = iter(progress)
        for number in range(ceil(len(items) / settings.shard_samples)):
            with ShardWriter(out, f"{settings.split}-{number:06d}") as writer:
                for result in islice(shown, settings.shard_samples):
                    if isinstance(result, Failure):
                        failures.append(result)
                    else:
                        writer.add(result, tuple(classes.index(label) for label in result.labels))
                if len(writer):
                    shards.append(writer.finish())
    return shards, failures


def _manifest(
    name: str, settings: Settings, classes: tuple[str, ...], shards: list[ShardRecord], failures: list[Failure]
) -> Manifest:
    return Manifest(
        format=FORMAT,
        name=name,
        settings=settings,
        classes=classes,
        num_samples=sum(shard.num_samples for shard in shards),
        num_failures=len(failures),
        num_bytes=sum(shard.tar_bytes for shard in shards),
        video_seconds=sum(shard.video_frames for shard in shards) / settings.profile.video.fps,
        audio_seconds=sum(shard.audio_samples for shard in shards) / settings.profile.audio.sample_rate,
        versions={"av": av.__version__, **{name: ".".join(map(str, version)) for name, version in av.library_versions.items()}},
        shards=shards,
    )
