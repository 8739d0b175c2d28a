"""How fast a run goes, what its loading takes, and how much memory it has."""

import time
from typing import NamedTuple

import psutil
import torch

from xkd.pipelines.loader import Loader
from xkd.train.utilisation import Utilisation

GIB = 2**30


class Reading(NamedTuple):
    """Steps done, a moment, and seconds spent in each stage of loading so far."""

    step: int
    seconds: float
    stages: dict[str, float]


class Meter:
    """Rates of a run between two readings, the first of which is taken when it is made, at `step`."""

    def __init__(self, loader: Loader, utilisation: Utilisation, *, clips_per_step: int, step: int):
        self._loader, self._utilisation, self._clips_per_step = loader, utilisation, clips_per_step
        self._last = self._read(step)

    def rates(self, step: int) -> dict[str, float]:
        """Since the last reading: clips a second, and this rank's seconds in each of `Loader.stage_seconds` by those gone by."""
        last, now = self._last, self._read(step)
        self._last = now
        seconds = now.seconds - last.seconds
        clips_per_second = (now.step - last.step) * self._clips_per_step / seconds
        shares = {f"data_{stage}_share": (spent - last.stages[stage]) / seconds for stage, spent in now.stages.items()}
        return {"clips_per_second": clips_per_second, **self._utilisation.rates(clips_per_second), **shares}

    def restart(self, step: int) -> None:
        """Leaves out of the next rates what has gone by since the last reading."""
        self._last = self._read(step)

    def _read(self, step: int) -> Reading:
        return Reading(step, time.perf_counter(), self._loader.stage_seconds)


def memory() -> dict[str, float]:
    """GiB of this rank: of the host what it holds now, of its GPU the most that tensors have held so far."""
    used = {"host_memory_gib": psutil.Process().memory_info().rss / GIB}
    return used | ({"gpu_memory_peak_gib": torch.cuda.max_memory_allocated() / GIB} if torch.cuda.is_available() else {})
