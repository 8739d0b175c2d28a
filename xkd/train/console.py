"""What a person sees of a run: a line for every row of metrics and, in a terminal, a bar below them."""

import shutil
import sys
import time
from collections.abc import Iterable, Mapping

from tqdm import tqdm

LOSSES = ("loss", "recon", "cmkd", "align")
PROBE = "probe/"
BAR = "{percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} steps, {elapsed} gone, {remaining} left"
# Seconds of a unit, the unit, and the one that is told with it.
UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


class Console:
    """Shows a run's rows on stdout, and its progress on stderr where that is a terminal."""

    def __init__(self, *, total_steps: int, start_step: int):
        self._total, self._start, self._began = total_steps, start_step, time.monotonic()
        disable = not sys.stderr.isatty()
        self._bar = tqdm(total=total_steps, initial=start_step, bar_format=BAR, dynamic_ncols=True, disable=disable)

    def advance(self) -> None:
        self._bar.update()

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Shows a row: a line of its step, where it is of one, and a line of what a probe found."""
        lines = [self._line(step, row)] if "loss" in row else []
        self.say([*lines, *([probed(step, row)] if any(name.startswith(PROBE) for name in row) else [])])

    def _line(self, step: int, row: Mapping[str, float]) -> str:
        parts = fields(step, self._total, row)
        if self._bar.disable and step < self._total:
            left = (time.monotonic() - self._began) / (step - self._start) * (self._total - step)
            parts.append(f"{duration(left)} left")
        return fit(parts, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)

    def say(self, lines: Iterable[str]) -> None:
        """Shows lines above the bar."""
        for line in lines:
            self._bar.write(line)
        sys.stdout.flush()

    def close(self) -> None:
        self._bar.close()


def fields(step: int, total: int, row: Mapping[str, float]) -> list[str]:
    """What a line tells of a row, the most important first; a row need not have all of it."""
    parts = [f"step {step:{len(str(total))}}/{total}"]
    parts += [f"epoch {row['epoch']:.2f}"] if "epoch" in row else []
    parts += [f"{name} {row[name]:6.3f}" for name in LOSSES if name in row]
    parts += [
        f"{word} {row[name]:.0f}" for name, word in (("skipped_steps", "SKIPPED"), ("substituted", "BAD CLIPS")) if row.get(name)
    ]
    parts += [f"{row['clips_per_second']:6.1f} clips/s"] if "clips_per_second" in row else []
    parts += [f"data wait {row['data_wait_share']:3.0%}"] if "data_wait_share" in row else []
    parts += [f"MFU {row['mfu']:.1%}"] if "mfu" in row else []
    parts += [f"lr {row['lr']:.1e}"] if "lr" in row else []
    parts += [f"grad {row['grad_norm']:.2f}"] if "grad_norm" in row else []
    return parts


def probed(step: int, row: Mapping[str, float]) -> str:
    """What a probe found, in per cent; not how many clips it took and how long."""
    found = {name.removeprefix(PROBE): value for name, value in row.items() if name.startswith(PROBE)}
    shares = [f"{name} {value:.1%}" for name, value in found.items() if name not in ("clips", "seconds")]
    return "  ".join([f"probe at step {step}", *shares])


def fit(parts: list[str], columns: int | None) -> str:
    """The parts in one line; without the last of them where it would be wider than `columns`."""
    while columns and len(parts) > 1 and len("  ".join(parts)) > columns:
        parts = parts[:-1]
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """A time to come, as exact as one wants to know it: `2 d 3 h`, `5 h 20 min`, `3 min 40 s`, `12 s`."""
    for size, unit, smaller_size, smaller in UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // smaller_size)} {smaller}"
    return f"{int(seconds)} s"
