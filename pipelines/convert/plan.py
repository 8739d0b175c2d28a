"""Decides, before anything is converted, what a shard set will hold: which items, in which order, and which are this part's."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from xkd.pipelines.convert.profiles import make_profile
from xkd.pipelines.convert.sources import DATASETS
from xkd.pipelines.convert.sources.item import Item, Listing
from xkd.pipelines.shards.manifest import Completeness, Settings, Source

SHARD_SAMPLES = 1000
SHARD_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Plan:
    """What is to be converted: the items of the whole, in order; `places` are those in the order that fall to this part."""

    listing: Listing
    items: Sequence[Item]
    settings: Settings
    source: Source
    official: int | None
    official_classes: int | None

    @property
    def places(self) -> list[int]:
        """Every n-th group of `shard_samples` items; a shard holds items of one group only."""
        size = self.settings.shard_samples
        first, step = (self.settings.part[0] - 1, self.settings.part[1]) if self.settings.part else (0, 1)
        groups = range(first, -(-len(self.items) // size), step)
        return [place for group in groups for place in range(group * size, min((group + 1) * size, len(self.items)))]

    def completeness(self, converted: int, failed: int) -> Completeness:
        present = len(self.listing.items)
        return Completeness(
            official=self.official,
            official_classes=self.official_classes,
            listed=present + len(self.listing.missing) if self.listing.has_lists else None,
            present=present,
            unlisted=len(self.listing.unlisted),
            converted=converted,
            failed=failed,
        )


def make_plan(
    source: Path,
    *,
    dataset: str,
    split: str,
    profile: str,
    codec: str | None = None,
    audio: str | None = None,
    short_side: int | None = None,
    gop: int | None = None,
    limit: int | None = None,
    shuffle: int | None = None,
    shard_samples: int = SHARD_SAMPLES,
    shard_bytes: int = SHARD_BYTES,
    part: tuple[int, int] | None = None,
) -> Plan:
    """List the source and put its items in order. Raises ValueError for wrong arguments and for what is wrong with the source."""
    _check_numbers(limit=limit, shard_samples=shard_samples, shard_bytes=shard_bytes)
    if dataset not in DATASETS:
        raise ValueError(f"dataset: {dataset!r} is not one of {', '.join(DATASETS)}")
    if part and not 1 <= part[0] <= part[1]:
        raise ValueError(f"part: {part[0]}/{part[1]} is not one of 1/{part[1]} to {part[1]}/{part[1]}")
    form = make_profile(profile, codec=codec, audio=audio, short_side=short_side, gop=gop)
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder; SOURCE is a folder of class folders of media files, or of a known data set")
    described_as = source.resolve().name
    _check_text(source, "the folder's name", [described_as])
    _check_text(source, "split", [split])
    listing = DATASETS[dataset].list(source, split)
    _check_text(source, "the class", listing.classes)
    items = _in_order(listing.items, shuffle)[:limit]
    _check_items(source, listing.classes, items)
    sizes = [item.location.num_bytes() for item in items]
    settings = Settings(
        dataset=dataset,
        split=split,
        streams=DATASETS[dataset].streams,
        profile=form,
        limit=limit,
        shuffle=shuffle,
        shard_samples=shard_samples,
        shard_bytes=shard_bytes,
        part=part,
        source_identity=_identity(listing, items, sizes),
    )
    described = Source(name=described_as, num_items=len(items), num_bytes=sum(sizes))
    official = DATASETS[dataset].official.get(split, listing.official)
    return Plan(listing, items, settings, described, official, DATASETS[dataset].official_classes)


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name}: {number} is not at least 1")


def _check_text(source: Path, what: str, names: Sequence[str]) -> None:
    """The manifest, in UTF-8, must be able to hold them; names of clips may be any bytes."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{source}: {what} {name!r} is not UTF-8; rename it (such as with `convmv`)") from None


def _in_order(items: Sequence[Item], seed: int | None) -> list[Item]:
    """In the order of hashes: classes spread over the shards, and a limit takes a fair sample."""
    if seed is None:
        return sorted(items, key=lambda item: (item.digest, item.identity))
    key = str(seed).encode()
    return sorted(items, key=lambda item: (blake2b(item.key.encode(), digest_size=8, key=key).digest(), item.identity))


def _check_items(source: Path, classes: Sequence[str], items: Sequence[Item]) -> None:
    names, known = {}, set(classes)
    for item in items:
        if other := names.get(item.key):
            raise ValueError(f"{source}: {item.name!r} and {other!r} both have the key {item.key}; list each clip once")
        if unknown := set(item.labels) - known:
            raise ValueError(f"{source}: {item.name!r} has the label {min(unknown)!r}, which is no class of the data set")
        names[item.key] = item.name


def _identity(listing: Listing, items: Sequence[Item], sizes: Sequence[int]) -> str:
    """A checksum of what a source lists: classes, names, sizes, labels, folds and times of its items, and what is missing."""
    digest = hashlib.sha256(json.dumps([listing.classes, listing.num_folds, listing.missing, listing.unlisted]).encode())
    for item, size in zip(items, sizes, strict=True):
        digest.update(json.dumps([item.name, size, item.labels, item.roles, item.time_range]).encode())
    return digest.hexdigest()
