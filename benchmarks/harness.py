"""Times several providers of the same work, in turn within one process, and counts what they use.

A benchmark is one setup function: `setup(provider)` is a context manager that yields a function. One call of that function does
one round of work, leaves nothing in flight, and returns the number of items it handled. It receives a `lap`, to be called with
the name of a part of the work whenever that part ends; work without parts ignores it.
"""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import psutil

MIB = 2**20
TOTAL = "total"
MEMORY_INTERVAL_SECONDS = 0.02
FEWEST_ROUNDS = 3

Lap = Callable[[str], None]
Round = Callable[[Lap], float]
Setup = Callable[[str], AbstractContextManager[Round]]


@dataclass(frozen=True)
class Reading:
    """One timed round: its items, and the seconds of the total and of each part."""

    items: float
    wall_s: dict[str, float]
    cpu_s: dict[str, float]


@dataclass(frozen=True)
class Measurement:
    """What one provider took for one part of its rounds; times are seconds a round."""

    provider: str
    part: str
    rounds: int
    items: float
    wall_p20_s: float
    wall_p50_s: float
    wall_p80_s: float
    cpu_s: float
    peak_mib: float | None = None
    device_mib: float | None = None
    cpu_p20_s: float | None = None
    cpu_p80_s: float | None = None

    @property
    def items_per_s(self) -> float:
        return self.items / self.wall_p50_s

    @property
    def cpu_ms_per_item(self) -> float:
        return 1000 * self.cpu_s / self.items


def measure(
    setup: Setup,
    providers: Sequence[str],
    *,
    rounds: int = 10,
    warmup: int = 2,
    budget_seconds: float = float("inf"),
    memory: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
) -> list[Measurement]:
    """Measures every provider: its total first, then its parts.

    All providers stand ready at once and take turns, a different one first each round, so that a slow spell of the machine meets
    all alike. Rounds end early, but never below three, once `budget_seconds` have passed. With `memory`, each provider also runs
    alone in a fresh process that watches its own resident memory; `setup` must then be picklable. On `cuda` the device is
    synchronised before each reading of the clock, and the device memory taken by setting up and warming up is recorded.
    """
    synchronize, device_mib_in_use = _DEVICES[device]
    peak_mib = {provider: _peak_in_fresh_process(setup, provider, warmup + 1) if memory else None for provider in providers}
    run_round, device_mib, readings = {}, {}, {provider: [] for provider in providers}
    with ExitStack() as stack:
        for provider in providers:
            before = device_mib_in_use()
            run_round[provider] = stack.enter_context(setup(provider))
            for _ in range(warmup):
                run_round[provider](_ignore)
            synchronize()
            device_mib[provider] = None if before is None else device_mib_in_use() - before
        start = time.perf_counter()
        for number in range(rounds):
            if number >= FEWEST_ROUNDS and time.perf_counter() - start > budget_seconds:
                break
            first = number % len(providers)
            for provider in (*providers[first:], *providers[:first]):
                readings[provider].append(_read_round(run_round[provider], synchronize))
    measurements = []
    for provider in providers:
        total, *parts = summarize(provider, readings[provider])
        measurements += [replace(total, peak_mib=peak_mib[provider], device_mib=device_mib[provider]), *parts]
    return measurements


def summarize(provider: str, readings: Sequence[Reading]) -> Iterator[Measurement]:
    """The 20th, 50th and 80th percentile of times and the median of items, for the total and then each part."""
    for part in readings[0].wall_s:
        p20, p50, p80 = np.percentile([reading.wall_s[part] for reading in readings], [20, 50, 80])
        cpu_p20, cpu_p50, cpu_p80 = np.percentile([reading.cpu_s[part] for reading in readings], [20, 50, 80])
        yield Measurement(
            provider=provider,
            part=part,
            rounds=len(readings),
            items=float(np.median([reading.items for reading in readings])),
            wall_p20_s=float(p20),
            wall_p50_s=float(p50),
            wall_p80_s=float(p80),
            cpu_s=float(cpu_p50),
            cpu_p20_s=float(cpu_p20),
            cpu_p80_s=float(cpu_p80),
        )


def cpu_seconds() -> float:
    """User and system time of this process, its threads, its living descendants, and those that ended and were waited for."""
    me, *descendants = _process_tree()
    waited_for = me.cpu_times()
    total = time.process_time() + waited_for.children_user + waited_for.children_system
    for process in descendants:
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and both of the children that it waited for
        except psutil.NoSuchProcess:  # it ended since it was listed: its parent's times hold it now
            continue
    return total


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yields a list whose one number is, on leaving, the highest resident memory of this process and its descendants, in MiB.

    Sampled every 20 ms; a page shared by two processes counts twice.
    """
    peak, done = [_resident_mib()], threading.Event()

    def watch():
        while not done.wait(MEMORY_INTERVAL_SECONDS):
            peak[0] = max(peak[0], _resident_mib())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak[0] = max(peak[0], _resident_mib())


def _read_round(run_round: Round, synchronize: Callable[[], None]) -> Reading:
    """Times one round. The CPU time of the total covers child processes; that of a part covers this process alone."""
    wall_s, cpu_s = {}, {}
    cpu_start = cpu_seconds()
    synchronize()
    start = time.perf_counter()
    mark = [start, time.process_time()]

    def lap(part):
        synchronize()
        now = [time.perf_counter(), time.process_time()]
        wall_s[part] = wall_s.get(part, 0.0) + now[0] - mark[0]
        cpu_s[part] = cpu_s.get(part, 0.0) + now[1] - mark[1]
        mark[:] = now

    items = run_round(lap)
    synchronize()
    total = time.perf_counter() - start
    return Reading(items, {TOTAL: total, **wall_s}, {TOTAL: cpu_seconds() - cpu_start, **cpu_s})


def _peak_in_fresh_process(setup: Setup, provider: str, rounds: int) -> float:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_peak, args=(setup, provider, rounds, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"{provider}: the process that measures memory ended without an answer; its error is above") from None
    finally:
        process.join()


def _report_peak(setup, provider, rounds, sender):
    with peak_memory() as peak, setup(provider) as run_round:
        for _ in range(rounds):
            run_round(_ignore)
    sender.send(peak[0])


def _process_tree():
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _resident_mib():
    total = 0
    for process in _process_tree():
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / MIB


def _cuda_synchronize():
    import torch

    torch.cuda.synchronize()


def _cuda_mib_in_use():
    import torch

    free, total = torch.cuda.mem_get_info()
    return (total - free) / MIB


def _ignore(*_):
    pass


_DEVICES = {"cpu": (_ignore, _ignore), "cuda": (_cuda_synchronize, _cuda_mib_in_use)}
