"""Where a run's numbers go: metrics.jsonl, TensorBoard, and a progress bar or plain lines for people."""

import json
import math
import sys
import time
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from xkd.train.run_directory import write_atomically

SHOWN = ("loss", "recon", "cmkd", "align")


class MetricsWriter:
    """Writes metrics on rank 0 and does nothing on the others; a context manager."""

    def __init__(self, run_dir: Path, *, total_steps: int, start_step: int, enabled: bool):
        self._enabled = enabled
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._file = _reopen(run_dir / "metrics.jsonl", start_step)
        self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=start_step or None)
        self._bar = tqdm(total=total_steps, initial=start_step, unit="step", dynamic_ncols=True, disable=not sys.stderr.isatty())
        self._total, self._began, self._start = total_steps, time.monotonic(), start_step

    def advance(self) -> None:
        """Counts one step on the progress bar."""
        if self._enabled:
            self._bar.update()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Records `values` after `step` steps; shows the loss parts, clips/s and the share of time spent waiting for data."""
        if not self._enabled:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        line = " ".join(f"{name} {values[name]:.4f}" for name in SHOWN if name in values)
        line += f" {values['clips_per_second']:.0f} clips/s, waiting for data {values['data_wait_share']:.0%}"
        if self._bar.disable:
            left = (time.monotonic() - self._began) / (step - self._start) * (self._total - step)
            print(f"step {step}/{self._total} {line}, {left:.0f} s left", flush=True)
        else:
            self._bar.set_postfix_str(line)

    def close(self) -> None:
        if self._enabled:
            self._bar.close()
            self._board.close()
            self._file.close()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *error) -> None:
        self.close()


def _reopen(path: Path, start_step: int) -> TextIO:
    """The file of rows, without those of steps that a resumed run will do again."""
    rows = path.read_text().splitlines(keepends=True) if path.exists() else []
    write_atomically(path, "".join(row for row in rows if json.loads(row)["step"] <= start_step))
    return path.open("a", buffering=1)
