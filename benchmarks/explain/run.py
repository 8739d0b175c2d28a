"""Takes real training steps, loader and all, and notes where their time goes on this rank."""

import math
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from xkd.benchmarks.explain.arrivals import Calls, recorded
from xkd.benchmarks.explain.clock import Clock, Threads, Usage, busy_seconds
from xkd.benchmarks.explain.evidence import DATA, LOGGING, TEACHERS, RankFacts
from xkd.benchmarks.step import Lapped
from xkd.pipelines.loader import Batch, Loader
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place, claim_device, exchange, find_place, from_rank_0
from xkd.train.engine import join_process_group
from xkd.train.meter import Meter, memory
from xkd.train.metrics import MetricsWriter
from xkd.train.pretraining import PretrainJob
from xkd.train.run import check
from xkd.train.task import trained
from xkd.train.trainer import Trainer

UNCOUNTED = 2  # first steps, which compile, allocate and fill queues
FEWEST, MOST = 5, 2000  # steps that are measured
SAMPLE_SECONDS = 0.5  # between two looks at the threads
TRIES = 5  # of what is timed by itself


class Run:
    """One rank's steps: a loader, a trainer whose parts are timed, metrics as a run writes them."""

    def __init__(self, job: PretrainJob, loader: Loader, clock: Clock, metrics: MetricsWriter):
        self._config, self._loader, self._clock, self._metrics = job.config, loader, clock, metrics
        self.trainer = Trainer(job.open_task(len(loader)))
        self.trainer.engine = Lapped(self.trainer.engine, clock.lap)
        _time_forward(self.trainer.model, clock)
        self._batches = self._endless()
        self._meter = Meter(loader, job.utilisation(), clips_per_step=job.config.train.global_batch, step=0)
        self._step = 0
        self.batch: Batch | None = None

    def take(self, steps: int, after_each: Callable[[], None] = lambda: None) -> float:
        """Takes so many steps; returns the seconds that one took."""
        start = time.monotonic()
        for _ in range(steps):
            self.batch = next(self._batches)
            self._clock.lap(DATA)
            numbers = self.trainer.step(self.batch, self._step)
            self._clock.lap(TEACHERS)
            self._step += 1
            self._metrics.advance()
            if self._step % self._config.train.log_every == 0:
                self._metrics.write(self._step, numbers | self._meter.rates(self._step) | memory())
            after_each()
            self._clock.lap(LOGGING)
        return (time.monotonic() - start) / max(1, steps)

    def _endless(self) -> Iterator[Batch]:
        while True:
            yield from self._loader


def observe(config: PretrainConfig, seconds: float) -> list[RankFacts] | None:
    """What all ranks see in about so many seconds of steps, after as many at most to let queues settle; None but on rank 0.

    Every rank must call it, before it joins the others. Raises ValueError for what cannot be trained with.
    """
    place = find_place()
    config = config.model_copy(update={"log": config.log.model_copy(update={"wandb": None})})
    device = {"cpu": "cpu", "gpu": "cuda"}[claim_device(place)]
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    with closing(Clock(synchronize)) as clock, recorded(clock, partial(_excused, clock)) as calls:
        join_process_group()
        try:
            with tempfile.TemporaryDirectory() as folder, _opened(config, Path(folder), place, clock) as (run, loader):
                facts = _measured(run, loader, clock, calls, config, seconds)
                alone = _alone(run.trainer, run.batch, clock, synchronize)
            where = {"rank": place.rank, "host": socket.gethostname(), "machine": _boot(), "pid": os.getpid(), "device": device}
            ranks = exchange([RankFacts(**where, **facts, **alone)])
        finally:
            dist.destroy_process_group()
    return [found for (found,) in ranks] if place.rank == 0 else None


@contextmanager
def _opened(config: PretrainConfig, folder: Path, place: Place, clock: Clock) -> Iterator[tuple[Run, Loader]]:
    config = config.model_copy(update={"run_dir": folder})
    job = PretrainJob(config, place)
    check(job)
    writes = {"alarm": job.open_alarm(), "total_steps": MOST, "start_step": 0, "enabled": place.rank == 0}
    with job.open_loader(claim_device(place)) as loader, MetricsWriter(config, **writes) as metrics:
        yield Run(job, loader, clock, metrics), loader


def _measured(run: Run, loader: Loader, clock: Clock, calls: Calls, config: PretrainConfig, seconds: float) -> dict:
    """Facts of the steps. Until the stock of what was read and decoded ahead is used up, data would seem to come faster."""
    clips = config.train.global_batch // dist.get_world_size()
    run.take(UNCOUNTED - 1)
    took = from_rank_0(run.take(1))
    stock = config.data.prefetch + math.ceil(config.data.read_ahead / clips)
    took = from_rank_0(run.take(max(1, min(stock, round(seconds / took)))))
    steps = min(MOST, max(FEWEST, round(seconds / took)))
    dist.barrier()
    calls.restart()
    cores = frozenset(os.sched_getaffinity(0))
    threads, stages, cpu, busy = Threads(), loader.stage_seconds, time.process_time(), busy_seconds(cores)
    clock.lap(LOGGING)
    parts = dict(clock.parts)
    start = time.monotonic()
    run.take(steps, _now_and_then(threads.sample, SAMPLE_SECONDS))
    passed = time.monotonic() - start
    threads.sample()
    return {
        "cores": cores,
        "cores_online": os.cpu_count(),
        "steps": steps,
        "clips": clips,
        "seconds": passed,
        "parts": {part: usage - parts.get(part, Usage()) for part, usage in clock.parts.items()},
        "stages": {stage: now - stages[stage] for stage, now in loader.stage_seconds.items()},
        "readers": threads.readers,
        "threads": threads.all,
        "cpu_seconds": time.process_time() - cpu,
        "busy": {core: now - busy[core] for core, now in busy_seconds(cores).items()},
        "calls": list(calls.found),
    }


def _alone(trainer: Trainer, batch: Batch, clock: Clock, synchronize: Callable[[], None]) -> dict:
    """What is timed by itself after the steps: copying what the optimizer steps, the forward of one micro-batch and of two."""
    params = list(trained(trainer.model).values())
    elements = sum(getattr(param, "ds_numel", param.numel()) for param in params)
    if trainer.config.deepspeed.zero_stage:
        elements = math.ceil(elements / trainer.place.world_size)
    flat = torch.zeros(elements, device=params[0].device)
    copy = torch.empty_like(flat)
    size = len(batch.keys) // trainer.config.train.accumulation
    forward = [partial(_forward, trainer, _first(batch, size, times)) for times in (1, 2)]
    return {
        "tensors": len(params),
        "copy_seconds": _best(partial(copy.copy_, flat), clock, synchronize),
        "forward_seconds": tuple(_best(function, clock, synchronize) for function in forward),
    }


@torch.no_grad()
def _forward(trainer: Trainer, batch: Batch) -> None:
    trainer.task.forward(trainer.engine.forward, batch, slice(0, len(batch.keys)), 0, trainer.task.schedule(0))


def _first(batch: Batch, size: int, times: int) -> Batch:
    """The first `size` clips, so many times."""
    tensors = {name: torch.cat([rows[:size]] * times) for name, rows in vars(batch).items() if isinstance(rows, Tensor)}
    return replace(batch, **tensors, keys=batch.keys[:size] * times)


def _best(function: Callable[[], object], clock: Clock, synchronize: Callable[[], None]) -> float:
    """The least seconds that it takes: of a GPU, and on CPUs of the thread's running, which nothing from outside prolongs."""
    seconds = []
    for _ in range(TRIES):
        synchronize()
        before: Usage = clock.now()
        function()
        synchronize()
        used = clock.now() - before
        seconds.append(used.own if torch.cuda.is_available() else used.ran)
    return min(seconds)


def _time_forward(model: torch.nn.Module, clock: Clock) -> None:
    """Has the clock tell the networks apart within the forward: encoder, decoder and head of each."""
    names = {
        "forward: video student": [model.video_student],
        "forward: audio student": [model.audio_student],
        "forward: teachers": [model.video_teacher, model.audio_teacher],
    }
    for part, networks in names.items():
        for network in networks:
            for module in network.children():
                _time(module, part, clock)


def _time(module: torch.nn.Module, part: str, clock: Clock) -> None:
    opened = []

    def enter(*_):
        context = clock.within(part)
        context.__enter__()
        opened.append(context)

    def leave(*_):
        opened.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def _now_and_then(function: Callable[[], None], seconds: float) -> Callable[[], None]:
    last = [time.monotonic()]

    def call():
        if time.monotonic() - last[0] >= seconds:
            last[0] = time.monotonic()
            function()

    return call


def _excused(clock: Clock) -> float:
    """Seconds so far that a rank is late for reasons that have rules of their own: it wanted a core, or waited for data."""
    return clock.now().delayed + clock.parts.get(DATA, Usage()).own


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
