"""Shards that a run copies to the node's own disk: does their storage answer, how fast, and is there room?"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from xkd.doctor.folders import nearest
from xkd.doctor.verdict import Verdict, judged, ok
from xkd.pipelines.config import DataConfig
from xkd.pipelines.shards.manifest import Manifest
from xkd.pipelines.store.cache import fetch_manifest
from xkd.pipelines.store.download import Patience
from xkd.pipelines.store.range_locks import LockFile
from xkd.pipelines.store.remote import BLOCK_BYTES, Remote, open_remote

ONCE = Patience(tries=2)
COPY_SECONDS = 3.0


def judge_kept(field: str, location: str, data: DataConfig) -> Iterator[Verdict]:
    """The storage of a set, and the folder that it is kept in. Raises ValueError where the storage does not answer."""
    remote = open_remote(location, data.allow_pipe)
    manifest, _ = fetch_manifest(remote, ONCE)
    yield ok(field, f"{manifest.num_samples} samples in {len(manifest.shards)} shards at {remote.location}")
    yield _copying(field, remote, manifest)
    folder = data.stage_dir or data.cache_dir
    if folder is None:
        fix = "set data.stage_dir or data.cache_dir to a folder of the node's own disk"
        yield Verdict(f"place of {field}", "failed", "there is none on this machine", fix)
        return
    yield judge_folder(f"place of {field}", folder, needed_bytes(manifest, data))


def needed_bytes(manifest: Manifest, data: DataConfig) -> int:
    """What the set takes in the folder that it is kept in."""
    whole = sum(shard.tar_bytes for shard in manifest.shards)
    return whole if data.stage_dir else min(whole, data.cache_bytes or whole)


def _copying(field: str, remote: Remote, manifest: Manifest) -> Verdict:
    """How fast the first shard comes, for some seconds."""
    shard = manifest.shards[0]
    read, began = 0, time.perf_counter()
    with remote.open(f"{shard.name}.tar", 0) as file:
        while time.perf_counter() - began < COPY_SECONDS and (block := file.read(BLOCK_BYTES)):
            read += len(block)
    rate = read / (time.perf_counter() - began)
    whole = sum(shard.tar_bytes for shard in manifest.shards)
    return ok(f"copying {field}", f"{rate / 1e6:.1f} MB/s, one file at a time; all {whole / 1e9:.3g} GB take {whole / rate:.0f} s")


def judge_folder(check: str, folder: Path, needed: int) -> Verdict:
    """Whether a folder can be made, has locks, and has room for `needed` bytes, those of tars that are there already included."""
    base = nearest(folder)
    trial = base / f".xkd-doctor-{time.time_ns()}"
    fix = "choose a folder of the node's own disk that may be written to"
    try:
        with LockFile(trial) as lock:
            locked = lock.try_lock(0, 1)
    except OSError as error:
        return Verdict(check, "failed", f"{folder}: {error.strerror}", fix)
    finally:
        trial.unlink(missing_ok=True)
    if not locked:
        return Verdict(check, "failed", f"{folder}: its file system has no locks", fix)
    held = sum(tar.stat().st_size for tar in folder.rglob("*.tar")) if folder.is_dir() else 0
    free = shutil.disk_usage(base).free
    found = f"{folder}: {free / 1e9:.3g} GB free, {held / 1e9:.3g} GB are there, {needed / 1e9:.3g} GB needed"
    fix = "make room, choose a larger disk, or set data.cache_dir with data.cache_bytes"
    return judged(check, free + held < needed, found, fix)
