"""A training run: from its configuration to its last checkpoint, on every rank."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch.distributed as dist

from xkd.kernels.choice import implementation
from xkd.pipelines.loader import Loader
from xkd.pipelines.samples.quarantine import Quarantine
from xkd.pipelines.shards.shard_files import StorageError
from xkd.pipelines.store.opening import check_shards, is_remote
from xkd.train import checkpoint, run_directory, sinks
from xkd.train.config import TrainingConfig
from xkd.train.distributed import Place, claim_device, find_place, from_rank_0, together
from xkd.train.engine import join_process_group
from xkd.train.meter import Meter, memory
from xkd.train.metrics import MetricsWriter
from xkd.train.task import Job, Probe
from xkd.train.trainer import Stopped, Trainer

DONE, FAILED = 0, 1


class TooManySubstituted(Stopped):
    """Too many of the epoch's samples are damaged."""


def train(kind: Callable[[TrainingConfig, Place], Job], config: TrainingConfig) -> int:
    """Runs (or goes on with) the run of this kind that `config` describes, on every rank. Returns the exit code.

    Raises ValueError, on every rank, for a configuration, shards or a run directory that cannot be trained with, and leaves
    configuration and state of the run as they were. Where storage fails for good while the shards are opened, the run is failed.
    Raises RuntimeError for what goes wrong in training. The last two are told in state.json.
    """
    place = find_place()
    job = kind(config, place)
    check(job)
    device = claim_device(place)
    kernels = implementation("cuda" if device == "gpu" else "cpu")
    join_process_group()  # the ranks wait for each other for minutes here, and for hours in `together`
    try:
        quarantine, found = together(partial(_look, config, place))
        loader = together(partial(job.open_loader, device))
        probe = together(partial(job.open_probe, device, len(loader)))
    except StorageError as error:
        return _finish(config, place, FAILED, "failed", reason=str(error))
    found = from_rank_0(found)
    trainer = Trainer(job.open_task(len(loader)))
    start, state = checkpoint.restore(found, trainer) if found else (0, loader.state_dict())
    loader.load_state_dict(state | {"quarantine": [damage.model_dump() for damage in quarantine]})
    total = min(math.ceil(config.train.epochs * len(loader)), config.train.max_steps or math.inf)
    metrics = together(partial(_open_metrics, job, start, total))
    utilisation = job.utilisation()
    if place.rank == 0:
        run_directory.record(config)
        run_directory.write_state(config.run_dir, "running", step=start)
    done = f"{config.run_dir}: {len(loader)} steps an epoch, {start} of {total} steps done, kernels: {kernels}"
    metrics.say([done, *job.opening(utilisation)])
    try:
        with loader, metrics:
            meter = Meter(loader, utilisation, clips_per_step=config.train.global_batch, step=start)
            _run(trainer, loader, probe, metrics, meter, start, total, state["substituted"])
    except Stopped as error:
        _record_damage(config, loader, place)
        return _finish(config, place, FAILED, "failed", reason=str(error))
    except Exception as error:  # the launcher ends the other ranks, which know nothing of it
        known = run_directory.read_quarantine(config.run_dir)
        known.add(loader.quarantine)
        run_directory.write_quarantine(config.run_dir, known)
        run_directory.write_state(config.run_dir, "failed", reason=f"{type(error).__name__}: {error}")
        raise RuntimeError(f"{config.run_dir}: training failed on rank {place.rank}") from error
    return _finish(config, place, DONE, "done", step=total)


def check(job: Job) -> None:
    """Raises what can be told at once, from this machine's folders."""
    config = job.config
    batch, accumulation = config.train.global_batch, config.train.accumulation
    parts = job.place.world_size * accumulation
    if batch % parts:
        raise ValueError(
            f"train.global_batch: {batch} clips cannot be cut into {parts} equal parts "
            f"({job.place.world_size} ranks x train.accumulation {accumulation}): choose a multiple of {parts}"
        )
    job.check()
    sinks.check(config)
    run_directory.check(config)
    _check_shards(config, remote=False)


def _check_shards(config: TrainingConfig, *, remote: bool) -> None:
    """Raises where one of the shard sets that are remote, or are not, is missing; the test set is better missed now than later."""
    for location in filter(None, (config.data.train, config.data.test)):
        if is_remote(location) == remote:
            check_shards(location, config.data)


def _look(config: TrainingConfig, place: Place) -> tuple[Quarantine, Path | None]:
    """What an earlier start has left, damaged samples and a checkpoint; raises what can be told before anything is copied."""
    found = run_directory.read_quarantine(config.run_dir), checkpoint.latest(config.run_dir)
    if place.rank == 0:
        run_directory.prepare(config)
    _check_shards(config, remote=True)
    return found


def _open_metrics(job: Job, start: int, total: int) -> MetricsWriter:
    return MetricsWriter(job.config, alarm=job.open_alarm(), total_steps=total, start_step=start, enabled=job.place.rank == 0)


def _finish(config: TrainingConfig, place: Place, exit_code: int, status: str, **facts) -> int:
    """Leaves the outcome in state.json and, of a failure, on the screen; no rank ends, and has the launcher end others, before."""
    if place.rank == 0:
        run_directory.write_state(config.run_dir, status, **facts)
        if exit_code:
            print(f"{config.run_dir}: {status}: {facts['reason']}", flush=True)
    dist.barrier()
    dist.destroy_process_group()
    return exit_code


def _record_damage(config: TrainingConfig, loader: Loader, place: Place) -> None:
    """Leaves the damaged samples that the ranks have found in the run directory; every rank must call it."""
    loader.share()
    if place.rank == 0:
        run_directory.write_quarantine(config.run_dir, loader.quarantine)


def _check_substituted(config: TrainingConfig, loader: Loader, substituted: int) -> None:
    """Raises TooManySubstituted, on every rank, where so many clips of the epoch are more than `data.max_bad_share` of it."""
    if substituted > loader.max_substituted:
        loader.share()
        listed = config.run_dir / run_directory.QUARANTINE
        raise TooManySubstituted(f"{loader.too_many(substituted)}; {listed} lists all: delete it when they are mended")


def _save(trainer: Trainer, loader: Loader, step: int) -> None:
    """Saves a checkpoint. What it lacks of the loader's state, the damaged samples, is in the run directory before."""
    state = {name: value for name, value in loader.state_dict().items() if name != "quarantine"}
    _record_damage(trainer.config, loader, trainer.place)
    checkpoint.save(trainer.config.run_dir, step, trainer, state)


def _run(
    trainer: Trainer,
    loader: Loader,
    probe: Probe | None,
    metrics: MetricsWriter,
    meter: Meter,
    step: int,
    total: int,
    substituted: int,
) -> None:
    """Steps from `step` to `total`, reporting and saving as configured; so many clips of this epoch were substituted before."""
    config = trainer.config
    if probe and step == 0 and probe.is_due(0):
        metrics.write(step, probe.measure(trainer.weights()))
        meter.restart(step)
    while step < total:
        for batch in loader:
            numbers = trainer.step(batch, step)
            step += 1
            substituted += round(numbers["substituted"])
            metrics.advance()
            probed = probe is not None and (step == total or probe.is_due(step))
            if probed or step == total or step % config.train.log_every == 0:
                so_far = {"epoch": step / len(loader), "substituted": substituted}
                row = numbers | meter.rates(step) | memory() | so_far
                if probed:
                    row |= probe.measure(trainer.weights())
                    meter.restart(step)
                metrics.write(step, row)
            _check_substituted(config, loader, substituted)
            if step == total or step % config.train.checkpoint_every == 0:
                _save(trainer, loader, step)
            if step == total:
                return
        substituted = 0
        _record_damage(config, loader, trainer.place)
