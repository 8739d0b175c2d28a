"""One optimisation step of XKD on every rank."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from xkd import schedules
from xkd.model.output import XKDOutput
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Batch
from xkd.train import ema, run_directory
from xkd.train.clipping import clip_per_tensor
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place, exchange, ranks_of, sum_over_ranks
from xkd.train.engine import Engine
from xkd.train.gradient_norms import GradientNorms

VIEWS = ("video_global", "video_local", "audio_global", "audio_local")
LAST_LAYER = "head.directions"


class Stopped(Exception):
    """Ends a run on all of its ranks at the same step."""


class NonFinite(Stopped):
    """The loss or the gradients of several steps in a row are not finite numbers."""


def param_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW's groups over the trainable parameters: biases and 1-D tensors are not decayed, all else is (as in the release).

    The heads' last layer is a group of its own, so that it can be frozen.
    """
    named = [(name, param) for name, param in model.named_parameters() if param.requires_grad]
    plain = [param for name, param in named if param.ndim < 2 or name.endswith("bias")]
    last = [param for name, param in named if name.endswith(LAST_LAYER)]
    decayed = [param for name, param in named if param.ndim >= 2 and not name.endswith(("bias", LAST_LAYER))]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
        {"params": last, "weight_decay": weight_decay},
    ]


def last_layer_frozen(config: PretrainConfig, step: int, steps_per_epoch: int) -> bool:
    """Whether the heads' last layer stays as it is: its learning rate is 0 then, and its moments see gradients of 0."""
    return step < config.optim.freeze_last_layer_epochs * steps_per_epoch


def schedule(config: PretrainConfig, step: int, steps_per_epoch: int) -> dict[str, float]:
    """The scheduled values of one step: learning rates, weight decay, teacher momenta, teacher temperatures."""
    steps, epoch, optim = config.train.epochs * steps_per_epoch, step / steps_per_epoch, config.optim
    scale = config.train.global_batch / optim.base_batch
    lr = schedules.warmup_cosine(step, steps, optim.warmup_epochs * steps_per_epoch, optim.lr * scale, optim.final_lr * scale)
    final_decay = optim.weight_decay if optim.final_weight_decay is None else optim.final_weight_decay
    values = {
        "lr": lr,
        "lr_last_layer": 0.0 if last_layer_frozen(config, step, steps_per_epoch) else lr,
        "weight_decay": schedules.cosine(step, steps, optim.weight_decay, final_decay),
    }
    for modality in ("video", "audio"):
        values[f"ema_{modality}"] = schedules.cosine(step, steps, getattr(config.ema, modality), config.ema.final)
        values[f"teacher_temperature_{modality}"] = getattr(config.loss, modality).teacher_temperature_at(epoch)
    return values


class Trainer:
    """The network, its engine and its schedules; `step` is one optimisation step on this rank's clips."""

    def __init__(self, config: PretrainConfig, place: Place, steps_per_epoch: int):
        self.config, self.place, self.steps_per_epoch = config, place, steps_per_epoch
        self.model = XKD(config.model, config.loss, **config.data.view_shapes, seed=config.seed, ranks=ranks_of(place))
        if config.train.compile:
            self.model.compile_blocks()
        self.engine = Engine(self.model, param_groups(self.model, config.optim.weight_decay), config, place.world_size)
        self._teachers = ema.Teachers(self.model.teacher_pairs(), self.engine.zero)
        named = {name: param for name, param in self.model.named_parameters() if param.requires_grad}
        self._params = list(named.values())
        self._skipped = self._skipped_in_a_row = 0
        device = self.engine.device
        clipped = [config.clip.scope == "all" or self.model.is_student_parameter(name) for name in named]
        self._max_norms = torch.tensor([config.clip.norm if clip else math.inf for clip in clipped], device=device)
        self._last_layer = torch.tensor([name.endswith(LAST_LAYER) for name in named], device=device)
        self._gradient_norms = GradientNorms(list(named), device)

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """One step: forward and backward of each micro-batch, per-tensor clip, AdamW, then teachers and centres.

        Returns the step's numbers, averaged over the ranks. A step whose loss or gradients are not finite on some rank changes
        nothing on any, and is counted. Raises NonFinite, on every rank, after `train.max_skipped_steps` of them in a row.
        """
        values = schedule(self.config, step, self.steps_per_epoch)
        self._set_groups(values)
        own, names = self._forward_backward(batch, step, values)
        scalars, video_mean, audio_mean = self._over_ranks(own, len(names))
        frozen = last_layer_frozen(self.config, step, self.steps_per_epoch)
        max_norms = self._max_norms.masked_fill(self._last_layer, 0) if frozen else self._max_norms
        zero = self.engine.zero
        norms = clip_per_tensor(zero.gradients(self._params), max_norms, zero.sum_over_parts)
        numbers = dict(zip(names, scalars.tolist(), strict=True)) | self._gradient_norms(norms)
        applied = math.isfinite(numbers["loss"]) and math.isfinite(numbers["grad_norm"])
        self.engine.step(apply=applied)
        if applied:
            self._teachers.update({modality: values[f"ema_{modality}"] for modality in ("video", "audio")})
            self.model.update_centers(video_mean, audio_mean)
        self._count(applied, batch, step, own[names.index("loss")])
        return {**numbers, **values, "skipped_steps": self._skipped}

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The whole network in float32, by the names of its state: what is trained as exactly as it is known, averages, centres.

        Every rank must go through all of it. A tensor may be the network's own, not a copy.
        """
        zero = self.engine.zero
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if not isinstance(tensor, nn.Parameter):
                whole = tensor
            elif "_teacher." in name:
                whole = zero.join(tensor, self._teachers.average(tensor))
            else:
                whole = zero.whole(tensor) if tensor.requires_grad else zero.join(tensor, zero.weights(tensor))
            yield name, whole.detach().float()

    @torch.no_grad()
    def set_teachers(self, weights: Mapping[str, Tensor]) -> None:
        """Gives averages and centres the values that `weights` had."""
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if "_teacher." in name:
                whole = weights[name].to(self.engine.device)
                if isinstance(tensor, nn.Parameter):
                    self._teachers.set(tensor, whole)
                else:
                    tensor.copy_(whole)

    def _set_groups(self, values: dict[str, float]) -> None:
        decayed, plain, last = self.engine.param_groups
        decayed["lr"] = plain["lr"] = values["lr"]
        last["lr"] = values["lr_last_layer"]
        decayed["weight_decay"] = last["weight_decay"] = values["weight_decay"]

    def _forward_backward(self, batch: Batch, step: int, values: dict[str, float]) -> tuple[Tensor, list[str]]:
        """Forward and backward of this rank's micro-batches.

        Returns, averaged over them: loss, parts and statistics, whose names are returned too, then the teachers' mean outputs.
        """
        count = self.config.train.accumulation
        size = len(batch.sample_ids) // count
        rows, substituted = self.place.rank * len(batch.sample_ids), batch.substituted.sum() * self.place.world_size
        packed = []
        for start in range(0, size * count, size):
            views = [getattr(batch, name) for name in VIEWS]
            output: XKDOutput = self.engine.forward(
                *(view if view is None else view[start : start + size] for view in views),
                step=step,
                first_row=rows + start,
                teacher_temperature_video=values["teacher_temperature_video"],
                teacher_temperature_audio=values["teacher_temperature_audio"],
            )
            self.engine.backward(output.loss)
            scalars = {"loss": output.loss.detach(), **output.parts, **output.stats, "substituted": substituted}
            means = (output.teacher_mean_video, output.teacher_mean_audio)
            device = self.engine.device
            packed.append(torch.cat([torch.stack([value.to(device).float() for value in scalars.values()]), *means]))
        return torch.stack(packed).mean(0), list(scalars)

    def _over_ranks(self, own: Tensor, num_scalars: int) -> tuple[Tensor, Tensor, Tensor]:
        """What `_forward_backward` packed, averaged over the ranks in one all-reduce: scalars and both teachers' means."""
        mean = sum_over_ranks(own.clone()).div_(self.place.world_size)
        num_outputs = (len(mean) - num_scalars) // 2
        return mean.split([num_scalars, num_outputs, num_outputs])

    def _count(self, applied: bool, batch: Batch, step: int, own_loss: Tensor) -> None:
        """Counts skipped steps; at the last that is allowed, leaves its samples in the run directory and raises NonFinite."""
        self._skipped_in_a_row = 0 if applied else self._skipped_in_a_row + 1
        self._skipped += not applied
        if self._skipped_in_a_row < self.config.train.max_skipped_steps:
            return
        ranks = exchange({"rank": self.place.rank, "loss": str(own_loss.item()), "keys": batch.keys})
        if self.place.rank == 0:
            run_directory.write_skipped(self.config.run_dir, step, ranks)
        where = self.config.run_dir / run_directory.SKIPPED
        raise NonFinite(
            f"step {step}: loss or gradients were not finite in {self._skipped_in_a_row} steps in a row; {where} has the samples "
            "of the last: lower optim.lr, or try train.precision=fp32, which tells whether it is the precision"
        )


def len_of_micro_batch(config: PretrainConfig, place: Place) -> int:
    """Clips that a rank computes at once."""
    return config.train.global_batch // (place.world_size * config.train.accumulation)
