"""One optimisation step of XKD on every rank."""

import math

import torch
from torch import Tensor, nn

from xkd import schedules
from xkd.model.output import XKDOutput
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Batch
from xkd.train import ema
from xkd.train.clipping import clip_per_tensor
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place, ranks_of, sum_over_ranks
from xkd.train.engine import Engine


class Stopped(Exception):
    """Ends a run on all of its ranks at the same step."""


class NonFinite(Stopped):
    """The loss of a step, or the gradients of several in a row, are not finite numbers."""


def param_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW's groups over the trainable parameters: biases and 1-D tensors are not decayed, all else is (as in the release)."""
    named = [(name, param) for name, param in model.named_parameters() if param.requires_grad]
    plain = [param for name, param in named if param.ndim < 2 or name.endswith("bias")]
    decayed = [param for name, param in named if param.ndim >= 2 and not name.endswith("bias")]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def schedule(config: PretrainConfig, step: int, steps_per_epoch: int) -> dict[str, float]:
    """The scheduled values of one step: learning rate, teacher momenta, teacher temperatures."""
    steps = config.train.epochs * steps_per_epoch
    scale = config.train.global_batch / config.optim.base_batch
    warmup = config.optim.warmup_epochs * steps_per_epoch
    lr = schedules.warmup_cosine(step, steps, warmup, config.optim.lr * scale, config.optim.final_lr * scale)
    values = {"lr": lr}
    for modality in ("video", "audio"):
        values[f"ema_{modality}"] = schedules.cosine(step, steps, getattr(config.ema, modality), config.ema.final)
        values[f"teacher_temperature_{modality}"] = getattr(config.loss, modality).teacher_temperature_at(step / steps_per_epoch)
    return values


class Trainer:
    """The network, its engine and its schedules; `step` is one optimisation step on this rank's clips."""

    def __init__(self, config: PretrainConfig, place: Place, steps_per_epoch: int):
        self.config, self.place, self.steps_per_epoch = config, place, steps_per_epoch
        self.model = XKD(config.model, config.loss, **config.data.view_shapes, seed=config.seed, ranks=ranks_of(place))
        self.engine = Engine(self.model, param_groups(self.model, config.optim.weight_decay), config, place.world_size)
        named = {name: param for name, param in self.model.named_parameters() if param.requires_grad}
        self._params = list(named.values())
        clipped = [config.clip.scope == "all" or self.model.is_student_parameter(name) for name in named]
        self._skipped = self._skipped_in_a_row = 0
        self._max_norms = torch.tensor([config.clip.norm if clip else math.inf for clip in clipped], device=self.engine.device)

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """One step: forward, backward, per-tensor clip, AdamW, then teachers and centres.

        Returns the step's numbers, averaged over the ranks. A step whose gradients are not finite changes nothing and is counted.
        Raises NonFinite on every rank, before anything is changed, where the loss of one of them is not finite, and after
        `train.max_skipped_steps` skipped steps in a row.
        """
        values = schedule(self.config, step, self.steps_per_epoch)
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
        numbers, video_mean, audio_mean = self._average(output, batch)
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

    def _average(self, output: XKDOutput, batch: Batch) -> tuple[dict[str, float], Tensor, Tensor]:
        """Averages loss, parts, statistics and the teachers' mean outputs over the ranks, in one all-reduce.

        Counts the substituted clips of all ranks by the way.
        """
        substituted = (batch.substituted.sum() * self.place.world_size).to(output.loss.device)
        scalars = {"loss": output.loss.detach(), **output.parts, **output.stats, "substituted": substituted}
        means = (output.teacher_mean_video, output.teacher_mean_audio)
        packed = torch.cat([torch.stack([value.detach().float() for value in scalars.values()]), *means])
        sum_over_ranks(packed).div_(self.place.world_size)
        numbers, video_mean, audio_mean = packed.split([len(scalars), *(len(mean) for mean in means)])
        return dict(zip(scalars, numbers.tolist(), strict=True)), video_mean, audio_mean
