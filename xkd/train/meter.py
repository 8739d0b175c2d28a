"""How fast a run goes, and what its loading takes."""

import time
from typing import NamedTuple

from xkd.pipelines.loader import Loader


class Reading(NamedTuple):
    """Steps done, a moment, and seconds spent in each stage of loading so far."""

    step: int
    seconds: float
    stages: dict[str, float]


class Meter:
    """Rates of a run between two readings, the first of which is taken when it is made, at `step`."""

    def __init__(self, loader: Loader, *, clips_per_step: int, step: int):
        self._loader, self._clips_per_step = loader, clips_per_step
        self._last = self._read(step)

    def rates(self, step: int) -> dict[str, float]:
        """Since the last reading: clips a second, and this rank's seconds in each of `Loader.stage_seconds` by those gone by."""
        last, now = self._last, self._read(step)
        self._last = now
        seconds = now.seconds - last.seconds
        shares = {f"data_{stage}_share": (spent - last.stages[stage]) / seconds for stage, spent in now.stages.items()}
        return {"clips_per_second": (now.step - last.step) * self._clips_per_step / seconds, **shares}

    def _read(self, step: int) -> Reading:
        return Reading(step, time.perf_counter(), self._loader.stage_seconds)
