"""The states of an output folder: empty, unfinished (it has a journal), or complete (it has a manifest)."""

import fcntl
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from xkd.pipelines.convert.journal import JOURNAL, Header, ListedFailure, Stretch, begin_journal, read_journal
from xkd.pipelines.convert.shard import PARTIAL, SHARD_SUFFIXES, write_durably
from xkd.pipelines.shards.manifest import MANIFEST, Manifest, Settings, ShardRecord, read_manifest

FAILURES = "failures.jsonl"
SOURCE = "source.json"
LOCK = ".lock"
SHOWN = 5  # lost files, in an error


class StoppedRun(ValueError):
    """A conversion that ended before its end, for a reason outside of the arguments; the same command goes on from there."""


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Make sure that `out` exists and that no other run writes to it; a file error inside becomes one sentence, a StoppedRun."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _locked(out):
            yield
    except OSError as error:
        raise StoppedRun(
            f"{out}: cannot be written ({error.strerror or error}); what is finished is kept: make room, or mend what is wrong,"
            " and run the same command again"
        ) from error


def find_complete(out: Path, settings: Settings) -> Manifest | None:
    """The manifest of a complete folder, None if it is not complete.

    ValueError if it was made with other settings, or files that belong to it are missing or cut.
    """
    if not (out / MANIFEST).exists():
        return None
    manifest = read_manifest(out)
    if changed := _changes(manifest.settings.model_dump(), settings.model_dump()):
        raise ValueError(f"{out}: holds a complete shard set of another kind ({changed}); delete it or choose another folder")
    if lost := list(_lost(out, manifest)):
        shown = ", ".join(lost[:SHOWN]) + (f", and {len(lost) - SHOWN} more" if len(lost) > SHOWN else "")
        raise ValueError(f"{out}: was complete, but {shown}; put these files back from a copy, or delete {out} to make it anew")
    (out / JOURNAL).unlink(missing_ok=True)  # of a run that was killed after its last step but one
    return manifest


def open_unfinished(out: Path, header: Header) -> list[Stretch]:
    """Begin in an empty folder, or go on in an unfinished one: the stretches that are done.

    Shards that the journal does not name are deleted. ValueError if the folder holds anything else, or has other settings.
    """
    if not (out / JOURNAL).exists():
        if any(path.name not in (f"{JOURNAL}{PARTIAL}", LOCK) for path in out.iterdir()):
            raise ValueError(f"{out}: is not empty, and what it holds is not an unfinished shard set; choose another folder")
        begin_journal(out, header)
        return []
    before, stretches = read_journal(out)
    changed = _changes(before.settings.model_dump(), header.settings.model_dump()) or _changes(before.versions, header.versions)
    if changed:
        raise ValueError(
            f"{out}: holds an unfinished shard set of another kind ({changed}); finish it with the command that began it,"
            " delete it, or choose another folder"
        )
    kept = []
    for stretch in stretches:
        if stretch.shard and not _is_there(out, stretch.shard):
            break
        kept.append(stretch)
    begin_journal(out, header, kept)
    _delete_shards(out, except_for={stretch.shard.name for stretch in kept if stretch.shard})
    return kept


def write_failures(out: Path, failures: Iterable[ListedFailure]) -> None:
    """List the failures, one json object a line."""
    write_durably(out / FAILURES, "".join(json.dumps(asdict(failure)) + "\n" for failure in failures).encode())


def read_failures(out: Path) -> list[ListedFailure]:
    with (out / FAILURES).open("rb") as lines:
        return [ListedFailure(**json.loads(line)) for line in lines]


def write_source(out: Path, missing: Iterable[str], unlisted: Iterable[str]) -> None:
    """Name what is listed and not there, and what is there and in no list."""
    write_durably(out / SOURCE, (json.dumps({"missing": list(missing), "unlisted": list(unlisted)}, indent=1) + "\n").encode())


def write_manifest(out: Path, manifest: Manifest) -> None:
    """Make the folder complete."""
    write_durably(out / MANIFEST, manifest.model_dump_json(indent=1).encode())
    (out / JOURNAL).unlink()


def _changes(before: dict, now: dict) -> str:
    names = [*now, *(before.keys() - now.keys())]
    return "; ".join(
        f"{name} was {before.get(name)!r} and is now {now.get(name)!r}" for name in names if before.get(name) != now.get(name)
    )


def _lost(out: Path, manifest: Manifest) -> Iterator[str]:
    sizes = dict.fromkeys((FAILURES, SOURCE))
    for shard in manifest.shards:
        sizes |= {f"{shard.name}{suffix}": None for suffix in SHARD_SUFFIXES}
        sizes |= {f"{shard.name}.tar": shard.tar_bytes, f"{shard.name}.safetensors": shard.sidecar_bytes}
    for name, size in sizes.items():
        if not (out / name).exists():
            yield f"{name} is missing"
        elif size is not None and (found := (out / name).stat().st_size) != size:
            yield f"{name} has {found} bytes instead of {size}"


def _is_there(out: Path, shard: ShardRecord) -> bool:
    paths = [out / f"{shard.name}{suffix}" for suffix in SHARD_SUFFIXES]
    return all(path.exists() for path in paths) and paths[0].stat().st_size == shard.tar_bytes


def _delete_shards(out: Path, except_for: set[str]) -> None:
    for suffix in (*SHARD_SUFFIXES, *(f"{suffix}{PARTIAL}" for suffix in SHARD_SUFFIXES)):
        for path in out.glob(f"*-[0-9][0-9][0-9][0-9][0-9][0-9]{suffix}"):
            if path.name.removesuffix(suffix) not in except_for or suffix.endswith(PARTIAL):
                path.unlink()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the folder's lock, a file that is there for as long; it ends with the process. Where there are no locks, say so.

    On NFS only a file that is open for writing can be locked.
    """
    path = out / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.path.samestat(os.fstat(descriptor), path.stat())
        except (BlockingIOError, FileNotFoundError):  # another run has it, or had it and has just ended
            held = False
        except OSError as error:
            held = True
            sys.stderr.write(f"{out}: the file system has no locks ({error.strerror}); let no other run write here\n")
        if not held:
            raise ValueError(f"{out}: another run is writing here; wait for its end, or choose another folder")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
