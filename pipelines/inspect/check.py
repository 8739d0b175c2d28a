"""Checks that a shard folder is what was written: every byte against its checksum, every file against the others."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xkd.pipelines.convert.output import FAILURES, SOURCE
from xkd.pipelines.convert.shard import PARTIAL, SHARD_SUFFIXES
from xkd.pipelines.convert.workers import map_in_order
from xkd.pipelines.inspect.shard import check_shard
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.manifest import MANIFEST, Manifest, read_manifest, totals
from xkd.pipelines.shards.sidecar import KEY_BYTES

# Beyond this a worker counts as hung: far more than reading and decoding the largest shard from a slow file system takes.
SHARD_SECONDS = 24 * 3600.0


def check_shards(folder: str | Path, decode: bool = False, workers: int | None = None) -> list[str]:
    """All that is wrong with a finished shard folder, a sentence each; `decode` decodes every member as well.

    `workers` processes share the shards (default: one per usable core); 1 checks in this process. Raises ValueError if there is
    no such folder, or `workers` is not at least 1.
    """
    folder = Path(folder)
    if workers is not None and workers < 1:
        raise ValueError(f"workers: {workers} is not at least 1")
    workers = workers or len(os.sched_getaffinity(0))
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such shard folder")
    try:
        manifest = read_manifest(folder)
    except ValueError as error:
        return [str(error)]
    problems = [*_manifest_problems(folder, manifest), *_folder_problems(folder, manifest)]
    check = partial(check_shard, folder=folder, manifest=manifest, decode=decode)
    workers = max(1, min(workers, len(manifest.shards)))
    found = (
        map(check, manifest.shards) if workers == 1 else map_in_order(check, manifest.shards, workers, item_seconds=SHARD_SECONDS)
    )
    progress = tqdm(found, total=len(manifest.shards), unit="shard", desc="check", mininterval=1)
    for _, shard_problems in zip(manifest.shards, progress, strict=True):
        problems += shard_problems
    return problems or list(_duplicates(folder, manifest))


def summary(folder: Path, problems: list[str], decode: bool) -> str:
    """The last line of a check."""
    if problems:
        number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        return f"{folder}: {number}; copy the named files again, or convert the dataset again"
    found = read_manifest(folder)
    checked = "checksums and structure" + (", and every sample decodes" if decode else "")
    return f"{folder}: good ({found.num_samples} samples in {len(found.shards)} shards, {found.num_bytes / 1e6:.1f} MB: {checked})"


def _manifest_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    path, shards = folder / MANIFEST, manifest.shards
    if manifest.model_dump_json(indent=1).encode() != path.read_bytes():
        yield f"{path}: is damaged: it is not written as the converter writes it"
    for name, total in totals(shards, manifest.settings.profile, len(manifest.classes)).items():
        if getattr(manifest, name) != total:
            yield f"{path}: {name} is {getattr(manifest, name)}, but {total} in its shards together"
    if manifest.completeness.converted != manifest.num_samples:
        yield f"{path}: completeness.converted is {manifest.completeness.converted}, but num_samples is {manifest.num_samples}"
    if len({shard.name for shard in shards}) < len(shards):
        yield f"{path}: names a shard twice"


def _folder_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the lists beside the shards, and files that the manifest knows nothing of."""
    for name, read in ((FAILURES, _json_lines), (SOURCE, json.loads)):
        try:
            found = read((folder / name).read_bytes())
            if name == FAILURES and len(found) != manifest.num_failures:
                yield f"{folder / name}: has {len(found)} lines, but the manifest counts {manifest.num_failures} failures"
        except FileNotFoundError:
            yield f"{folder / name}: is missing"
        except ValueError as error:
            yield f"{folder / name}: is damaged: {error}"
    known = {f"{shard.name}{suffix}" for shard in manifest.shards for suffix in SHARD_SUFFIXES}
    for path in sorted(folder.iterdir()):
        if path.name.endswith((*SHARD_SUFFIXES, PARTIAL)) and path.name not in known:
            yield f"{path}: is not in the manifest; it belongs to another shard set, or to a run that did not end"


def _duplicates(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Keys that several samples have."""
    shards = ShardSet(folder, manifest)
    if not len(shards):  # a part may have none
        return
    keys, counts = np.unique(shards.column("key").view(f"S{KEY_BYTES}"), return_counts=True)
    for key in keys[counts > 1]:
        yield f"{folder}: several samples have the key {key.decode('ascii')}"


def _json_lines(data: bytes) -> list:
    return [json.loads(line) for line in data.splitlines()]
