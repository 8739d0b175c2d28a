"""Runs of training through the deepspeed launcher, as users start them, for those who measure them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from xkd.train.distributed import free_port


def run_to_its_end(
    config: str, overrides: Sequence[str], run_dir: Path, *, ranks: int, variables: Mapping[str, str] | None = None
) -> str:
    """Starts `deepspeed --module xkd.train` with `variables` in the environment and waits; returns what the run wrote.

    Raises RuntimeError, with the reason first and then what it wrote, where the run is not done then.
    """
    launcher = ("deepspeed.launcher.runner", "--num_accelerators", str(ranks), "--master_port", str(free_port()))
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "--module", "xkd.train", config, *overrides, f"run_dir={run_dir}"],
        env=os.environ | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    state = json.loads((run_dir / "state.json").read_text()) if (run_dir / "state.json").exists() else {}
    if state.get("status") != "done":
        raise RuntimeError(f"the run is not done: {state.get('reason') or _last_said(done.stdout)}\n{done.stdout}")
    return done.stdout


def _last_said(told: str) -> str:
    """The last line that is not the launcher's own, which begin with the time in brackets."""
    lines = [line for line in told.splitlines() if line.strip() and not line.startswith("[")]
    return lines[-1] if lines else "it said nothing"
