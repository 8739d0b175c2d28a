"""A training run: from its configuration to its last checkpoint, on every rank."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch.distributed as dist

from xkd.kernels.choice import implementation
from xkd.pipelines.samples.quarantine import Quarantine
from xkd.pipelines.shards.shard_files import StorageError
from xkd.pipelines.store.opening import check_shards, is_remote
from xkd.train import checkpoint, run_directory, sinks, snapshot
from xkd.train.checkpoint import Checkpoint
from xkd.train.config import TrainingConfig
from xkd.train.distributed import Place, claim_device, find_place, from_rank_0, together
from xkd.train.engine import join_process_group
from xkd.train.heartbeat import Heartbeat
from xkd.train.loop import Loop
from xkd.train.metrics import MetricsWriter
from xkd.train.stopping import StopRequests
from xkd.train.suspects import gone, listen
from xkd.train.task import Job
from xkd.train.trainer import Stopped, Trainer
from xkd.train.watchdog import Watchdog

DONE, FAILED, STOPPED = 0, 1, 75


def train(kind: Callable[[TrainingConfig, Place], Job], *configs: TrainingConfig) -> int:
    """Runs (or goes on with) the runs of this kind that `configs` describe, one after the other, on every rank.

    Returns the exit code of the first that is not done; those after it are not begun.
    Raises ValueError, on every rank, for a configuration, shards or a run directory that cannot be trained with, and leaves
    configuration and state of the run as they were. Where storage fails for good while the shards are opened, the run is failed.
    Raises RuntimeError for what goes wrong in training. The last two are told in state.json.
    """
    place = find_place()
    jobs = [kind(config, place) for config in configs]
    for job in jobs:
        check(job)
    device = claim_device(place)
    kernels = implementation("cuda" if device == "gpu" else "cpu")
    # Joined once, since DeepSpeed keeps groups of it. Ranks wait for others for minutes here, for hours in `together`.
    join_process_group(max(config.train.hang_timeout_minutes or 0 for config in configs))
    code = next((code for job in jobs if (code := _run(job, device, kernels)) != DONE), DONE)
    dist.destroy_process_group()
    return code


def _run(job: Job, device: Literal["cpu", "gpu"], kernels: str) -> int:
    """One run, on every rank of the process group."""
    config, place = job.config, job.place
    try:
        quarantine, found, warnings = together(partial(_look, config, place))
        loader = together(partial(job.open_loader, device))
        found = from_rank_0(found)
        start = found.step if found else 0
        total = min(math.ceil(config.train.epochs * len(loader)), config.train.max_steps or math.inf)
        if start >= total:
            loader.close()
            return _finish(config, place, DONE, "done", step=start)
        probe = together(partial(job.open_probe, device, len(loader)))
        pictures = job.open_pictures(len(loader))
    except StorageError as error:
        return _finish(config, place, FAILED, "failed", reason=str(error))
    trainer = Trainer(job.open_task(len(loader)))
    if found:
        snapshot.restore(trainer, found)
    state = found.meta["loader"] if found else loader.state_dict()
    loader.load_state_dict(state | {"quarantine": [damage.model_dump() for damage in quarantine]})
    metrics = together(partial(_open_metrics, job, start, total))
    utilisation = job.utilisation()
    done = f"{config.run_dir}: {len(loader)} steps an epoch, {start} of {total} steps done, kernels: {kernels}"
    metrics.say([*warnings, done, *job.opening(utilisation)])
    if place.rank == 0:
        metrics.say(run_directory.changes(config))
        run_directory.record(config)
        run_directory.write_state(config.run_dir, "running", step=start)
    trainer.progress.begin(start)
    requests = StopRequests(config.run_dir, polls=place.rank == 0)
    heartbeat = Heartbeat(config.run_dir, place, trainer.progress)
    with requests, heartbeat, Watchdog(config.run_dir, place, trainer.progress, config.train.hang_timeout_minutes):
        try:
            with loader, metrics:
                steps = {"step": start, "total": total, "substituted": state["substituted"]}
                loop = Loop(trainer, loader, probe, pictures, metrics, utilisation, requests, **steps)
                step, asked = loop.run()
        except Stopped as error:
            loop.record_damage()
            return _finish(config, place, FAILED, "failed", reason=str(error))
        except Exception as error:  # the launcher ends the other ranks, which know nothing of it
            known = run_directory.read_quarantine(config.run_dir)
            known.add(loader.quarantine)
            run_directory.write_quarantine(config.run_dir, known)
            run_directory.write_failure(config.run_dir, _reason(error, config, place))
            raise RuntimeError(f"{config.run_dir}: training failed on rank {place.rank}") from error
        if asked:
            return _finish(config, place, STOPPED, "stopped", step=step, reason=asked)
        return _finish(config, place, DONE, "done", step=step)


def _reason(error: Exception, config: TrainingConfig, place: Place) -> str:
    """What went wrong on this rank and, where it may be for want of them, which ranks are gone."""
    others = gone(*listen(config.run_dir, place.world_size)) if place.world_size > 1 else None
    return f"{type(error).__name__}: {error}" + (f"; {others}" if others else "")


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


def _look(config: TrainingConfig, place: Place) -> tuple[Quarantine, Checkpoint | None, list[str]]:
    """What an earlier start has left, damaged samples and, on rank 0, a checkpoint; raises what can be told before copying."""
    quarantine, saved, warnings = run_directory.read_quarantine(config.run_dir), None, []
    if place.rank == 0:
        saved, warnings = checkpoint.newest(config.run_dir)
        run_directory.prepare(config)
    _check_shards(config, remote=True)
    return quarantine, saved, warnings


def _open_metrics(job: Job, start: int, total: int) -> MetricsWriter:
    return MetricsWriter(job.config, alarm=job.open_alarm(), total_steps=total, start_step=start, enabled=job.place.rank == 0)


def _finish(config: TrainingConfig, place: Place, exit_code: int, status: str, **facts) -> int:
    """Leaves the outcome in state.json and on the screen; no rank ends, and has the launcher end others, before."""
    if place.rank == 0:
        run_directory.write_state(config.run_dir, status, **facts)
        steps = [f"{facts['step']} steps are done"] if "step" in facts else []
        print(f"{config.run_dir}: {status}: {'; '.join([*filter(None, [facts.get('reason')]), *steps])}", flush=True)
    dist.barrier()
    return exit_code
