"""Can the run directory be trusted: are files replaced whole, do all nodes see them, is there room?"""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from xkd.doctor.context import Context
from xkd.doctor.verdict import Verdict, judged, ok
from xkd.train.config import PretrainConfig
from xkd.train.utilisation import clip_cost

GIVE_CONFIG = "give the configuration of the run: xkd doctor CONFIG"
POSIX = "choose a run_dir on a POSIX file system (local disk, NFS, Lustre, GPFS), not on a mounted object store"
SHARED = "choose a run_dir on storage that all nodes share"
SEEN_SECONDS = 15.0
MOST_SKEW = 1.0  # seconds
TRIAL = "run_dir trial"  # the note that says where the first process has written


def check(context: Context) -> Iterator[Verdict]:
    """The run directory from this node; it need not exist yet, and is left as it was found."""
    if context.config is None:
        yield Verdict("run_dir", "not checked", "no configuration was given", GIVE_CONFIG)
        return
    base = nearest(context.config.run_dir)
    trial = base / f".xkd-doctor-{secrets.token_hex(4)}"
    try:
        trial.mkdir()
    except OSError as error:
        yield Verdict("run_dir", "failed", f"{base}: cannot be written ({error.strerror})", "choose a folder that you may write to")
        return
    context.ending.callback(shutil.rmtree, trial, ignore_errors=True)
    yield judge_semantics(base, semantics(trial))
    yield _file_clock(trial)
    yield judge_room(base, shutil.disk_usage(base).free, context.config)
    yield from _seen(context, trial)


def nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def semantics(folder: Path) -> dict[str, str]:
    """What saving relies on and the file system of `folder` does not do: {what: how it failed}."""
    faults = {}
    for what, trial in TRIALS.items():
        try:
            if not trial(folder):
                faults[what] = "was done wrong"
        except OSError as error:
            faults[what] = error.strerror or str(error)
    return faults


def _replaces_file(folder: Path) -> bool:
    target, temporary = folder / "latest", folder / "latest.tmp"
    target.write_text("old")
    with temporary.open("w") as file:
        file.write("new")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    return target.read_text() == "new" and not temporary.exists()


def _renames_folder(folder: Path) -> bool:
    temporary, final = folder / "step.tmp", folder / "step"
    temporary.mkdir()
    (temporary / "part").write_text("whole")
    temporary.rename(final)
    return (final / "part").read_text() == "whole" and not temporary.exists()


def _syncs_folder(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return True


TRIALS: dict[str, Callable[[Path], bool]] = {
    "replacing a file": _replaces_file,
    "renaming a folder": _renames_folder,
    "fsync of a folder": _syncs_folder,
}


def judge_semantics(base: Path, faults: dict[str, str]) -> Verdict:
    wrong = "; ".join(f"{what}: {how}" for what, how in faults.items())
    return judged("run_dir", bool(faults), f"{base}: {wrong or 'files and folders are replaced whole'}", POSIX)


def _file_clock(trial: Path) -> Verdict:
    """The clock of whoever stores the files, beside this node's."""
    file = trial / "clock"
    before = time.time()
    file.write_text("")
    skew = file.stat().st_mtime - (before + time.time()) / 2
    found = f"{abs(skew):.2f} s {'ahead of' if skew > 0 else 'behind'} this node" if abs(skew) > MOST_SKEW else "as this node's"
    fix = "have the clocks of nodes and file servers set by NTP"
    return judged("clock of run_dir", abs(skew) > MOST_SKEW, found, fix, "warning")


def checkpoint_bytes(config: PretrainConfig) -> int:
    """Size of a checkpoint: all weights and averages, and two moments of what is trained, in float32."""
    cost = clip_cost(config)
    return 4 * cost.parameters + 8 * cost.trainable_parameters


def judge_room(base: Path, free: int, config: PretrainConfig) -> Verdict:
    """Whether `free` bytes hold the checkpoints that are kept, and the one that is being written."""
    one, count = checkpoint_bytes(config), config.train.keep_checkpoints + 1
    found = f"{base}: {free / 1e9:.3g} GB free, {count} checkpoints take {count * one / 1e9:.3g} GB (quotas are not seen here)"
    fix = "make room, choose another run_dir, or lower train.keep_checkpoints"
    return judged("room of run_dir", free < count * one, found, fix)


def _seen(context: Context, trial: Path) -> Iterator[Verdict]:
    """Whether this node sees what the first one has written in the run directory."""
    if context.notes is None or context.alone:
        return
    if context.place.rank == 0:
        context.note(TRIAL, str(trial / "latest"))
        return
    written = context.read_note(TRIAL, SEEN_SECONDS)
    if written is None:
        yield Verdict("shared run_dir", "failed", "the first node could not write in it", SHARED)
        return
    began = time.monotonic()
    while not os.path.exists(written):
        if time.monotonic() - began > SEEN_SECONDS:
            found = f"what the first node has written is not there after {SEEN_SECONDS:g} s: {written}"
            yield Verdict("shared run_dir", "failed", found, SHARED)
            return
        time.sleep(0.05)
    yield ok("shared run_dir", f"seen after {time.monotonic() - began:.1f} s")
