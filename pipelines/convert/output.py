"""The states of an output folder: empty, unfinished (a marker says so), or complete (it has a manifest)."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from xkd.pipelines.convert.sample import Failure
from xkd.pipelines.convert.shard import PARTIAL, SHARD_SUFFIXES, write_durably
from xkd.pipelines.manifest import MANIFEST, Manifest, Settings, read_manifest

FAILURES = "failures.jsonl"
UNFINISHED = "unfinished.json"


def find_complete(out: Path, settings: Settings) -> Manifest | None:
    """The manifest of a complete folder, None if it is not complete; ValueError if it was made with other settings."""
    if not (out / MANIFEST).exists():
        return None
    manifest = read_manifest(out)
    before, now = manifest.settings.model_dump(), settings.model_dump()
    changed = "; ".join(f"{name} was {before[name]!r} and is now {now[name]!r}" for name in now if before[name] != now[name])
    if changed:
        raise ValueError(f"{out}: holds a complete shard set of another kind ({changed}); delete it or choose another folder")
    return manifest


def start_over(out: Path, settings: Settings) -> None:
    """Mark `out` as unfinished, and delete the shards of an earlier unfinished run; ValueError if it holds anything else."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / UNFINISHED).exists() and any(out.iterdir()):
        raise ValueError(f"{out}: is not empty, and what it holds is not an unfinished shard set; choose another folder")
    write_durably(out / UNFINISHED, settings.model_dump_json(indent=1).encode())
    for suffix in (*SHARD_SUFFIXES, *(f"{suffix}{PARTIAL}" for suffix in SHARD_SUFFIXES)):
        for path in out.glob(f"*-[0-9][0-9][0-9][0-9][0-9][0-9]{suffix}"):
            path.unlink()


def write_failures(out: Path, failures: Iterable[Failure]) -> None:
    """List the failures, one json object a line."""
    write_durably(out / FAILURES, "".join(json.dumps(asdict(failure)) + "\n" for failure in failures).encode())


def write_manifest(out: Path, manifest: Manifest) -> None:
    """Make the folder complete."""
    write_durably(out / MANIFEST, manifest.model_dump_json(indent=1).encode())
    (out / UNFINISHED).unlink()
