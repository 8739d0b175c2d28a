"""The folder of a run: its configuration, its environment, and the state that launchers read."""

import json
import os
from pathlib import Path

from xkd.config import dump
from xkd.env import environment
from xkd.train.config import PretrainConfig


def write_atomically(path: Path, text: str) -> None:
    """Writes `text` so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def prepare(config: PretrainConfig) -> None:
    """Makes the run directory, or checks that the one that is there belongs to the same configuration.

    `train.max_steps` may differ, since it alters no schedule. Raises ValueError with the differing lines otherwise.
    """
    folder, resolved = config.run_dir, dump(config)
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / "config.yaml"
    if saved.exists():
        changed = sorted(set(_lines(saved.read_text())) ^ set(_lines(resolved)))
        if changed:
            raise ValueError(
                f"{saved}: this run was started with another configuration ({'; '.join(changed[:6])}): "
                "go on with the same one, or choose another run_dir"
            )
    write_atomically(saved, resolved)
    write_atomically(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")


def _lines(resolved: str) -> list[str]:
    return [line.strip() for line in resolved.splitlines() if "max_steps" not in line]


def write_state(folder: Path, status: str, **facts) -> None:
    """Records the run's outcome in state.json: running, done or failed, with the step and the reason."""
    write_atomically(folder / "state.json", json.dumps({"status": status, **facts}, indent=2) + "\n")
