"""The checkpoints of a run on disk: which there are, which of them are whole, and which are kept.

checkpoints/step-NNNNNN holds weights.safetensors (the whole network in float32), moments/rank-NNNNN.safetensors (what AdamW has of
the stretches of parameters that each rank updates) and meta.json. `checkpoints/latest` names the newest.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from xkd.train.run_directory import write_atomically

FOLDER, LATEST, META, WEIGHTS, MOMENTS = "checkpoints", "latest", "meta.json", "weights.safetensors", "moments"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint."""

    folder: Path
    meta: Mapping

    @property
    def step(self) -> int:
        """Steps that were done."""
        return self.meta["step"]


def newest(run_dir: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint of a run, if it has one, and a warning for everything that is broken and should be newer.

    Nothing is deleted. Raises ValueError where there are checkpoints and none is whole.
    """
    found, broken = None, []
    for folder in _folders(run_dir):
        if problem := _problem(folder):
            broken.append(f"{folder}: {problem}")
        else:
            found = Checkpoint(folder, _meta(folder))
            break
    pointer = run_dir / FOLDER / LATEST
    named = pointer.read_text().strip() if pointer.is_file() else None
    if named and not (pointer.parent / named).is_dir():
        broken.insert(0, f"{pointer}: names {named}, which is not there")
    if broken and not found:
        raise ValueError(
            f"{'; '.join(broken)}: no whole checkpoint is left to go on from: copy one back, or start with a new run_dir"
        )
    used = f"goes on from {found.folder.name} instead" if found else ""
    return found, [f"WARNING: {problem}; the run {used}" for problem in broken]


def before(run_dir: Path, step: int) -> Checkpoint | None:
    """The newest whole checkpoint of fewer than `step` steps, if there is one."""
    older = (folder for folder in _folders(run_dir) if _step(folder) < step and not _problem(folder))
    return next((Checkpoint(folder, _meta(folder)) for folder in older), None)


def temporary(run_dir: Path, step: int) -> Path:
    """Where the files of a checkpoint are written until it is whole."""
    return run_dir / FOLDER / f"step-{step:06d}.tmp"


def clear(run_dir: Path) -> None:
    """Removes what was left half written or half removed."""
    for folder in (run_dir / FOLDER).glob("step-*.tmp"):
        shutil.rmtree(folder)


def publish(folder: Path, meta: Mapping, keep: int) -> Path:
    """Makes a temporary folder, whose other files are on disk, the run's newest checkpoint; returns its place.

    Of the others the newest `keep` - 1 stay, and those whose meta.json says `milestone`.
    """
    write_atomically(folder / META, json.dumps({"format": FORMAT, **meta}, indent=2) + "\n")
    for directory in (folder / MOMENTS, folder):
        fsync(directory)
    final = folder.with_suffix("")
    if final.exists():  # a broken one, or the run has gone on from before it
        _remove(final)
    folder.rename(final)
    write_atomically(final.parent / LATEST, final.name + "\n")
    fsync(final.parent)
    _prune(final, keep)
    return final


def _prune(newest: Path, keep: int) -> None:
    older = [folder for folder in _folders(newest.parent.parent) if _step(folder) < _step(newest) and not _problem(folder)]
    for folder in older[keep - 1 :]:
        if not _meta(folder)["milestone"]:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Removes a checkpoint, of which no part is taken for one meanwhile."""
    shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}.old.tmp")))


def fsync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _folders(run_dir: Path) -> list[Path]:
    """Of whole checkpoints and of broken ones, the newest first."""
    return sorted((folder for folder in (run_dir / FOLDER).glob("step-*") if folder.suffix != ".tmp"), key=_step, reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _meta(folder: Path) -> dict:
    return json.loads((folder / META).read_text())


def _problem(folder: Path) -> str | None:
    """What a checkpoint lacks; None where it is whole."""
    try:
        meta = _meta(folder)
    except (OSError, ValueError) as error:
        return f"{META} cannot be read ({error})"
    if meta.get("format") != FORMAT:
        return f"is of format {meta.get('format')}, and this version reads {FORMAT}"
    for name, size in meta["files"].items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        try:
            safe_open(file, "pt").__exit__(None, None, None)
        except SafetensorError as error:
            return f"{name} is damaged ({error})"
    return None
