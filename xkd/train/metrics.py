"""Where a run's numbers go: to files, services and the screen, past an alarm for a collapse."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from xkd.train.alarm import CollapseAlarm
from xkd.train.config import TrainingConfig
from xkd.train.console import Console
from xkd.train.sinks import JsonLines, TensorBoard, WeightsAndBiases


class MetricsWriter:
    """Writes rows of metrics wherever `log:` says, on rank 0, and does nothing on the others; a context manager.

    Raises ValueError where Weights & Biases cannot be reached; nothing is changed then.
    """

    def __init__(
        self, config: TrainingConfig, *, alarm: CollapseAlarm | None = None, total_steps: int, start_step: int, enabled: bool
    ):
        self._enabled = enabled
        if not enabled:
            return
        self._sinks = list(_open(config, start_step))
        self._console = Console(total_steps=total_steps, start_step=start_step)
        self._alarm = alarm

    def say(self, lines: Iterable[str]) -> None:
        """Shows lines of text."""
        if self._enabled:
            self._console.say(lines)

    def advance(self) -> None:
        """Counts one step on the progress bar."""
        if self._enabled:
            self._console.advance()

    def write(self, step: int, row: dict[str, float]) -> None:
        """Records `row` after `step` steps and, where there is an alarm, `collapse_alarms`, for how many symptoms it rings."""
        if not self._enabled:
            return
        warnings = self._alarm.look(row) if self._alarm else []
        row = row | ({"collapse_alarms": self._alarm.ringing} if self._alarm else {})
        for sink in self._sinks:
            sink.write(step, row)
        self._console.write(step, row)
        for warning in warnings:
            self._console.say([f"WARNING at step {step}: {warning}"])

    def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Records pictures, uint8 [H, W, 3], wherever there is a place for them."""
        if self._enabled:
            for sink in self._sinks:
                sink.show(step, pictures)

    def close(self) -> None:
        if self._enabled:
            for part in (self._console, *self._sinks):
                part.close()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *error) -> None:
        self.close()


def _open(config: TrainingConfig, start_step: int) -> Iterator[JsonLines | TensorBoard | WeightsAndBiases]:
    if config.log.wandb:
        yield WeightsAndBiases(config)  # first: it alone may refuse
    yield JsonLines(config, start_step)
    if config.log.tensorboard:
        yield TensorBoard(config, start_step)
