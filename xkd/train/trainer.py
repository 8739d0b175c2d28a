"""The pre-training loop: one step of XKD on every rank, and the run around it."""

import math
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn

from xkd import schedules
from xkd.model.xkd import XKD, XKDOutput
from xkd.pipelines.index import ShardSet
from xkd.pipelines.loader import Batch, Loader
from xkd.train import checkpoint, ema, run_directory
from xkd.train.clipping import clip_per_tensor
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place, claim_device, find_place, from_rank_0, gather, sum_over_ranks
from xkd.train.engine import Engine, join_process_group
from xkd.train.metrics import MetricsWriter

DONE, FAILED = 0, 1


class NonFinite(ArithmeticError):
    """The loss of a step, or the gradients of several in a row, are not finite numbers."""


def param_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW's groups over the trainable parameters: biases and 1-D tensors are not decayed, all else is (as in the release)."""
    named = [(name, param) for name, param in model.named_parameters() if param.requires_grad]
    plain = [param for name, param in named if param.ndim < 2 or name.endswith("bias")]
    decayed = [param for name, param in named if param.ndim >= 2 and not name.endswith("bias")]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


class Trainer:
    """The network, its engine and its schedules; `step` is one optimisation step on this rank's clips."""

    def __init__(self, config: PretrainConfig, place: Place, steps_per_epoch: int):
        self.config, self.place, self.steps_per_epoch = config, place, steps_per_epoch
        self.model = XKD(config.model, config.loss, **config.data.view_shapes, seed=config.seed, gather=gather)
        self.engine = Engine(self.model, param_groups(self.model, config.optim.weight_decay), config, place.world_size)
        named = {name: param for name, param in self.model.named_parameters() if param.requires_grad}
        self._params = list(named.values())
        clipped = [config.clip.scope == "all" or self.model.is_student_parameter(name) for name in named]
        self._skipped = self._skipped_in_a_row = 0
        self._max_norms = torch.tensor([config.clip.norm if clip else math.inf for clip in clipped], device=self.engine.device)

    def schedule(self, step: int) -> dict[str, float]:
        """The scheduled values of one step: learning rate, teacher momenta, teacher temperatures."""
        config, per_epoch = self.config, self.steps_per_epoch
        steps = config.train.epochs * per_epoch
        scale = config.train.global_batch / config.optim.base_batch
        warmup = config.optim.warmup_epochs * per_epoch
        lr = schedules.warmup_cosine(step, steps, warmup, config.optim.lr * scale, config.optim.final_lr * scale)
        values = {"lr": lr}
        for modality in ("video", "audio"):
            values[f"ema_{modality}"] = schedules.cosine(step, steps, getattr(config.ema, modality), config.ema.final)
            values[f"teacher_temperature_{modality}"] = getattr(config.loss, modality).teacher_temperature_at(step / per_epoch)
        return values

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """One step: forward, backward, per-tensor clip, AdamW, then teachers and centres.

        Returns the step's numbers, averaged over the ranks. A step whose gradients are not finite changes nothing and is counted.
        Raises NonFinite on every rank, before anything is changed, where the loss of one of them is not finite, and after
        `train.max_skipped_steps` skipped steps in a row.
        """
        values = self.schedule(step)
        for group in self.engine.param_groups:
            group["lr"] = values["lr"]
        output: XKDOutput = self.engine.forward(
            batch.video_global,
            batch.video_local,
            batch.audio_global,
            batch.audio_local,
            step=step,
            first_row=self.place.rank * len(batch.sample_ids),
            teacher_temperature_video=values["teacher_temperature_video"],
            teacher_temperature_audio=values["teacher_temperature_audio"],
        )
        numbers, video_mean, audio_mean = self._average(output)
        if not math.isfinite(numbers["loss"]):
            raise NonFinite(f"step {step}: the loss is {numbers['loss']} (clips of rank 0: {', '.join(batch.keys[:4])} ...)")
        self.engine.backward(output.loss)
        norms = clip_per_tensor(self.engine.gradient_pieces(self._params), self._max_norms, sum_over_ranks)
        if self._apply(step):
            for modality, pairs in self.model.teacher_pairs().items():
                ema.update(pairs, values[f"ema_{modality}"])
            self.model.update_centers(video_mean, audio_mean)
        return {**numbers, **values, "grad_norm": norms.square().sum().sqrt().item(), "skipped_steps": self._skipped}

    def _apply(self, step: int) -> bool:
        """Takes the optimizer's step, and says whether ZeRO did so or skipped it on all ranks."""
        applied = self.engine.step()
        self._skipped_in_a_row = 0 if applied else self._skipped_in_a_row + 1
        self._skipped += not applied
        if self._skipped_in_a_row == self.config.train.max_skipped_steps:
            raise NonFinite(f"step {step}: the gradients were not finite in {self._skipped_in_a_row} steps in a row")
        return applied

    def _average(self, output: XKDOutput) -> tuple[dict[str, float], Tensor, Tensor]:
        """Averages loss, parts, statistics and the teachers' mean outputs over the ranks, in one all-reduce."""
        scalars = {"loss": output.loss.detach(), **output.parts, **output.stats}
        means = (output.teacher_mean_video, output.teacher_mean_audio)
        packed = torch.cat([torch.stack([value.detach().float() for value in scalars.values()]), *means])
        sum_over_ranks(packed).div_(self.place.world_size)
        numbers, video_mean, audio_mean = packed.split([len(scalars), *(len(mean) for mean in means)])
        return dict(zip(scalars, numbers.tolist(), strict=True)), video_mean, audio_mean


def train(config: PretrainConfig) -> int:
    """Runs (or goes on with) the pre-training that `config` describes, on every rank. Returns the exit code.

    Raises ValueError for a configuration, data or run directory that cannot be trained with, on every rank and before any process
    group is made; RuntimeError for what goes wrong later. Either way state.json says how it ended.
    """
    place = find_place()
    loader = _open_loader(config, place)
    run_directory.check(config)
    found = checkpoint.latest(config.run_dir)
    if place.rank == 0:
        run_directory.prepare(config)
    join_process_group()
    found = from_rank_0(found)
    trainer = Trainer(config, place, steps_per_epoch=len(loader))
    start = checkpoint.restore(found, trainer.engine, place) if found else 0
    total = min(math.ceil(config.train.epochs * len(loader)), config.train.max_steps or math.inf)
    if place.rank == 0:
        run_directory.write_state(config.run_dir, "running", step=start)
        print(f"{config.run_dir}: {len(loader)} steps an epoch, {start} of {total} steps done", flush=True)
    try:
        with loader, MetricsWriter(config.run_dir, total_steps=total, start_step=start, enabled=place.rank == 0) as metrics:
            _run(trainer, loader, metrics, start, total)
    except NonFinite as error:
        return _finish(config, place, FAILED, "failed", reason=str(error))
    except Exception as error:
        if place.rank == 0:
            run_directory.write_state(config.run_dir, "failed", reason=f"{type(error).__name__}: {error}")
        raise RuntimeError(f"{config.run_dir}: training failed on rank {place.rank}") from error
    return _finish(config, place, DONE, "done", step=total)


def _open_loader(config: PretrainConfig, place: Place) -> Loader:
    batch = config.train.global_batch
    if batch % place.world_size:
        raise ValueError(f"train.global_batch: {batch} clips cannot be cut into {place.world_size} equal parts: choose a multiple")
    config.loss.check_batch(batch // place.world_size)
    shards = ShardSet.open(config.data.train)
    if config.data.test:
        ShardSet.open(config.data.test)  # not read here, but better missed now than after the run
    return Loader(
        shards,
        config.data,
        preset="pretrain",
        batch_size=batch // place.world_size,
        seed=config.seed,
        rank=place.rank,
        world_size=place.world_size,
        device=claim_device(place),
    )


def _finish(config: PretrainConfig, place: Place, exit_code: int, status: str, **facts) -> int:
    """Leaves the outcome in state.json and, of a failure, on the screen; no rank ends, and has the launcher end others, before."""
    if place.rank == 0:
        run_directory.write_state(config.run_dir, status, **facts)
        if exit_code:
            print(f"{config.run_dir}: {status}: {facts['reason']}", flush=True)
    dist.barrier()
    dist.destroy_process_group()
    return exit_code


def _run(trainer: Trainer, loader: Loader, metrics: MetricsWriter, step: int, total: int) -> None:
    """Steps from `step` to `total`, reporting and saving as configured."""
    config, place = trainer.config, trainer.place
    since, since_step, waited = time.monotonic(), step, loader.wait_seconds
    while step < total:
        epoch, within = divmod(step, trainer.steps_per_epoch)
        for batch in loader.epoch(epoch, start_step=within):
            numbers = trainer.step(batch, step)
            step += 1
            metrics.advance()
            if step % config.train.log_every == 0 or step == total:
                now = time.monotonic()
                rate = {
                    "epoch": step / trainer.steps_per_epoch,
                    "clips_per_second": (step - since_step) * config.train.global_batch / (now - since),
                    "data_wait_share": (loader.wait_seconds - waited) / (now - since),
                }
                metrics.write(step, {**numbers, **rate})
                since, since_step, waited = now, step, loader.wait_seconds
            if step == total or step % config.train.checkpoint_every == 0:
                checkpoint.save(config.run_dir, step, trainer.engine, trainer.model, place)
            if step == total:
                return
