"""Runs steps through several graphs in turn, so that they decode side by side, and has what cannot be decoded replaced."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from xkd.pipelines.loading.executor import Executor
from xkd.pipelines.samples.source import Example
from xkd.pipelines.samples.stream import Step
from xkd.pipelines.views.example import ExampleConfig
from xkd.pipelines.views.finish import Views

LONGEST_REASON = 200
ADVICE = "Where it lacks memory, set a smaller batch, data.prefetch or data.pipelines"


class Lanes:
    """A queue of steps, each of them in the lane (pipeline) of its number; `len` is the number of steps under way.

    When a graph fails, the examples of its oldest step are tried alone. Those that fail again are named to `replace` (ExampleStream
    has it), the graph is built anew, and all of its steps begin again.
    """

    def __init__(self, config: ExampleConfig, *, batch_size: int, device: str, replace: Callable[[Step, Mapping[int, str]], Step]):
        self._config, self._batch_size, self._device, self._replace = config, batch_size, device, replace
        self._executors = [self._built(batch_size) for _ in range(config.pipelines)]
        self._pending: deque[Step] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def closed(self) -> bool:
        return not self._executors

    def put(self, step: Step) -> None:
        """Start on a step; returns at once."""
        self._pending.append(step)
        self._start(step)

    def take(self) -> tuple[Step, Views]:
        """The oldest step, waited for, with the graph's outputs for it; some of its examples may have been replaced meanwhile.

        Raises RuntimeError where the graph fails, but on none of the examples alone, and what `replace` raises.
        """
        while True:
            lane = self._lane(self._pending[0])
            try:
                outputs = self._executors[lane].take()
            except RuntimeError as error:
                self._pending[0] = self._replaced(self._pending[0], error)
                self._restart(lane)
            else:
                return self._pending.popleft(), outputs

    def drain(self) -> None:
        """Drop all steps that are under way."""
        self._pending.clear()
        for lane, executor in enumerate(self._executors):
            with suppress(RuntimeError):  # of a batch that nobody asks for any more
                executor.drain()
            if executor.closed:
                self._restart(lane)

    def close(self) -> None:
        """End DALI's threads; tensors already taken stay valid."""
        self._pending.clear()
        for executor in self._executors:
            executor.close()
        self._executors = []

    def _built(self, batch_size: int) -> Executor:
        return Executor(self._config, batch_size=batch_size, device=self._device)

    def _lane(self, step: Step) -> int:
        return step.number % len(self._executors)

    def _start(self, step: Step) -> None:
        self._executors[self._lane(step)].put([example.inputs for example in step.examples])

    def _restart(self, lane: int) -> None:
        self._executors[lane].close()
        self._executors[lane] = self._built(self._batch_size)
        for step in self._pending:
            if self._lane(step) == lane:
                self._start(step)

    def _replaced(self, step: Step, error: RuntimeError) -> Step:
        """The step with decodable examples only."""
        reasons = self._faults(dict(enumerate(step.examples)))
        if not reasons:
            names = ", ".join(f"{example.sample.shard}: {example.sample.key}" for example in step.examples)
            raise RuntimeError(f"DALI failed on these samples together, but on none alone. {ADVICE}. {names}") from error
        while reasons:
            before, step = step.examples, self._replace(step, reasons)
            changed = {row: new for row, (old, new) in enumerate(zip(before, step.examples, strict=True)) if new is not old}
            reasons = self._faults(changed)
        return step

    def _faults(self, examples: Mapping[int, Example]) -> dict[int, str]:
        """The rows of those examples that the graph fails on when they are alone, and why."""
        rows: dict[int, list[int]] = {}
        for row, example in examples.items():
            rows.setdefault(id(example), []).append(row)  # one that fills several rows is tried once
        faults, alone = {}, None
        for same in rows.values():
            alone = self._built(1) if alone is None or alone.closed else alone
            reason = fault(alone, [examples[same[0]]])
            faults |= dict.fromkeys(same, reason) if reason else {}
        if alone:
            alone.close()
        return faults


def fault(executor: Executor, examples: Sequence[Example]) -> str | None:
    """Why the graph fails on a batch, or None. It is closed then."""
    executor.put([example.inputs for example in examples])
    try:
        executor.take()
    except RuntimeError as error:
        return cause(str(error))
    return None


def cause(message: str) -> str:
    """The line of DALI's message that says what is wrong, without what says where in its source."""
    told = message.partition("encountered:")[2].strip() or message.strip()
    line = told.partition("\n")[0]
    return (line.partition(" failed: ")[2] or line)[:LONGEST_REASON]
