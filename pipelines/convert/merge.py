"""Joins the parts of a shard set to what one run would have written, byte for byte."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from xkd.pipelines.convert.journal import Header
from xkd.pipelines.convert.output import (
    SOURCE,
    find_complete,
    open_unfinished,
    read_failures,
    write_failures,
    write_manifest,
    writing_to,
)
from xkd.pipelines.convert.shard import PARTIAL, SHARD_SUFFIXES, rename_durably, sync, write_durably
from xkd.pipelines.convert.summary import Summary
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.manifest import Manifest, ShardRecord, totals

# What parts of one whole have in common, besides their settings.
_COMMON = ("name", "source", "classes", "num_folds", "versions")


def merge_shards(parts: Sequence[str | Path], out: str | Path) -> Summary:
    """Make the shard folder `out` of the parts 1/n to n/n, in any order; files are linked where that is possible, else copied.

    The parts stay as they are. May be ended and started again. Raises ValueError if a part is absent, unfinished, given twice or of
    other settings or versions, and if `out` holds anything else.
    """
    out, folders = Path(out), [Path(part) for part in parts]
    manifests = {folder: ShardSet.open(folder).manifest for folder in folders}
    _check_parts(manifests)
    first = next(iter(manifests.values()))
    settings = first.settings.model_copy(update={"part": None})
    failures = sorted((failure for folder in manifests for failure in read_failures(folder)), key=lambda failure: failure.item)
    found = sorted(((shard, folder) for folder in manifests for shard in manifests[folder].shards), key=lambda pair: pair[0].begin)
    if not found:
        raise ValueError(f"{', '.join(map(str, manifests))}: hold no sample; see their failures.jsonl")
    with writing_to(out):
        if complete := find_complete(out, settings):
            return Summary(out, complete, already_complete=True, failures=failures)
        if open_unfinished(out, Header(settings, first.versions)):
            raise ValueError(f"{out}: holds shards of an unfinished run; finish it, delete it, or choose another folder")
        shards = [_take(folder, shard, out, f"{settings.split}-{number:06d}") for number, (shard, folder) in enumerate(found)]
        sync(out)
        write_durably(out / SOURCE, (folders[0] / SOURCE).read_bytes())
        write_failures(out, failures)
        sums = totals(shards, settings.profile, len(first.classes))
        counts = {"converted": sums["num_samples"], "failed": len(failures)}
        completeness = first.completeness.model_copy(update=counts)
        manifest = first.model_copy(update={"settings": settings, "completeness": completeness, **sums})
        write_manifest(out, manifest)
    return Summary(out, manifest, already_complete=False, failures=failures)


def _check_parts(manifests: dict[Path, Manifest]) -> None:
    """ValueError unless these are all parts of one whole, each once."""
    (first_folder, first), *others = manifests.items()
    for folder, manifest in manifests.items():
        if manifest.settings.part is None:
            raise ValueError(f"{folder}: is no part of a shard set; give the folders that `xkd shards write --part` wrote")
    for folder, manifest in others:
        before, now = _whole(first), _whole(manifest)
        if changed := "; ".join(f"{name} is {before[name]!r} and {now[name]!r}" for name in now if before[name] != now[name]):
            raise ValueError(f"{first_folder} and {folder} are not parts of one whole: {changed}")
    number = first.settings.part[1]
    by_part: dict[int, list[str]] = {}
    for folder, manifest in manifests.items():
        by_part.setdefault(manifest.settings.part[0], []).append(str(folder))
    if twice := [folders for folders in by_part.values() if len(folders) > 1]:
        raise ValueError(f"{' and '.join(twice[0])} are the same part; give each part once")
    if missing := [f"{part}/{number}" for part in range(1, number + 1) if part not in by_part]:
        raise ValueError(f"part {', '.join(missing)} is missing; given were {', '.join(map(str, manifests))}")


def _whole(manifest: Manifest) -> dict:
    """What is the same for all parts of a whole."""
    settings = {**manifest.settings.model_dump(), "part": f"one of {manifest.settings.part[1]}"}
    return settings | {name: getattr(manifest, name) for name in _COMMON}


def _take(folder: Path, shard: ShardRecord, out: Path, name: str) -> ShardRecord:
    """Link or copy a shard's files to another name."""
    for suffix in SHARD_SUFFIXES:
        source, target = folder / f"{shard.name}{suffix}", out / f"{name}{suffix}"
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            partial = target.with_name(target.name + PARTIAL)
            shutil.copyfile(source, partial)
            rename_durably(partial, target)
    return shard.model_copy(update={"name": name})
