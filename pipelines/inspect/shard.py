"""Checks one shard: its files against the manifest, its tar against index and sidecar, every member against its checksum."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from xkd.pipelines.convert.shard import SHARD_SUFFIXES, sha256_of, statistics
from xkd.pipelines.inspect.members import Member, index_members, index_text, walk
from xkd.pipelines.inspect.sample import cut_off, expected_members, sample_problems
from xkd.pipelines.shards.identity import columns_identity
from xkd.pipelines.shards.manifest import Manifest, ShardRecord
from xkd.pipelines.shards.sidecar import Columns, Entry, open_sidecar, unpack


def check_shard(record: ShardRecord, *, folder: Path, manifest: Manifest, decode: bool) -> list[str]:
    """What is wrong with a shard; each problem begins with the file it is in."""
    paths = {suffix: folder / f"{record.name}{suffix}" for suffix in SHARD_SUFFIXES}
    problems = [f"{path}: is missing" for path in paths.values() if not path.is_file()]
    try:
        problems.extend(_problems(record, *paths.values(), manifest, decode))
    except OSError as error:
        problems.append(f"{error.filename or folder / record.name}: cannot be read: {error.strerror}")
    return problems


def _problems(
    record: ShardRecord, tar: Path, index: Path, sidecar: Path, stats: Path, manifest: Manifest, decode: bool
) -> Iterator[str]:
    profile = manifest.settings.profile
    if stats.is_file() and stats.read_bytes() != statistics(record, profile, manifest.classes):
        yield f"{stats}: is stale or damaged: it says something else than the manifest"
    entries = []
    if _is_intact(sidecar, record.sidecar_sha256):
        columns = open_sidecar(sidecar)
        entries = [unpack(columns, row) for row in range(len(columns["key"]))]
        yield from (f"{sidecar}: {problem}" for problem in _count_problems(columns, record))
    elif sidecar.is_file():
        yield f"{sidecar}: is stale or damaged: its sha256 is not that of the manifest, so the checksums in it were not used"
    if not tar.is_file():
        return
    text = index.read_text("ascii", "replace") if index.is_file() else ""
    index_is_intact = _is_intact(index, record.index_sha256)
    walked, structure = walk(tar, {member.offset: member.name for member in index_members(text)})
    if index.is_file() and (difference := _index_difference(text, walked, structure, index_is_intact)):
        yield f"{index}: {difference}"
    members = index_members(text) if index_is_intact else walked
    found = [*structure, *_sidecar_differences(entries, members, manifest), *cut_off(tar, entries)]
    infos = {member.key: member for member in members if member.extension == "json"}
    for entry in entries:
        found += sample_problems(tar, entry, infos.get(entry.key), profile, decode)
    yield from (f"{tar}: {problem}" for problem in [*_tar_problem(tar, record, found), *found])


def _is_intact(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of(path) == digest


def _tar_problem(tar: Path, record: ShardRecord, found: Sequence[str]) -> Iterator[str]:
    size = tar.stat().st_size
    if size != record.tar_bytes:
        yield f"has {size} bytes, but {record.tar_bytes} in the manifest"
    elif not _is_intact(tar, record.tar_sha256):
        yield "its sha256 is not that of the manifest" + (
            "" if found else "; yet its members are healthy: the manifest may be damaged"
        )


def _count_problems(columns: Columns, record: ShardRecord) -> Iterator[str]:
    counts = {
        "num_samples": len(columns["key"]),
        "video_frames": int(columns["video_frames"].sum()),
        "audio_samples": int(columns["audio_samples"].sum()),
        "class_samples": tuple(np.bincount(columns["labels"], minlength=len(record.class_samples)).tolist()),
        "identity": columns_identity(columns),
    }
    for name, found in counts.items():
        if found != getattr(record, name):
            yield f"its {name} is {found}, but {getattr(record, name)} in the manifest"


def _index_difference(text: str, walked: Sequence[Member], structure: Sequence[str], intact: bool) -> str | None:
    """What is wrong with an index; it is compared with the tar if the structure of that is whole."""
    if structure:
        return None if intact else "is stale or damaged: its sha256 is not that of the manifest"
    lines = zip_longest(text.splitlines(), index_text(walked).splitlines(), fillvalue="")
    for number, (found, wanted) in enumerate(lines, 1):
        if found != wanted:
            return f"is stale or damaged: line {number} is {found!r}, which for this tar would be {wanted!r}"
    return None if intact else "is damaged: its sha256 is not that of the manifest"


def _sidecar_differences(entries: Sequence[Entry], members: Sequence[Member], manifest: Manifest) -> Iterator[str]:
    if not entries:
        return
    there = {member for member in members if member.extension != "json"}
    expected = {member for entry in entries for member in expected_members(entry, manifest.settings.profile)}
    for member in sorted(expected - there, key=lambda member: member.offset):
        yield f"{member.name} (at byte {member.offset}, {member.size} bytes) is in the sidecar and not in the tar"
    for member in sorted(there - expected, key=lambda member: member.offset):
        yield f"{member.name} (at byte {member.offset}, {member.size} bytes) is in the tar and not in the sidecar"
