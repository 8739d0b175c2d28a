"""XKD's pre-training: its schedules and parameter groups, its forward, its teachers, and its kind of run."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from torch import nn

from xkd import schedules
from xkd.model.output import XKDOutput
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Batch, Loader
from xkd.pipelines.store.opening import open_shards
from xkd.train.alarm import CollapseAlarm
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place, exchange, ranks_of
from xkd.train.opening import opening
from xkd.train.pictures import Pictures
from xkd.train.probe import Probe
from xkd.train.task import Job, Outcome, Task, clips_at_once, trained
from xkd.train.utilisation import Utilisation

VIEWS = ("video_global", "video_local", "audio_global", "audio_local")
MODALITIES = ("video", "audio")
LAST_LAYER = "head.directions"


def param_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW's groups over the trainable parameters: biases and 1-D tensors are not decayed, all else is (as in the release).

    The heads' last layer is a group of its own, so that it can be frozen.
    """
    named = trained(model).items()
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
    for modality in MODALITIES:
        values[f"ema_{modality}"] = schedules.cosine(step, steps, getattr(config.ema, modality), config.ema.final)
        values[f"teacher_temperature_{modality}"] = getattr(config.loss, modality).teacher_temperature_at(epoch)
    return values


class Pretraining(Task):
    """XKD under its schedules; its averages are the teachers, its means theirs, for the centres."""

    def __init__(self, config: PretrainConfig, place: Place, steps_per_epoch: int):
        model = XKD(config.model, config.loss, **config.data.view_shapes, seed=config.seed, ranks=ranks_of(place))
        if config.train.compile:
            model.compile_blocks()
        super().__init__(config, place, model)
        self._steps_per_epoch = steps_per_epoch
        clipped = {name: config.clip.scope == "all" or model.is_student_parameter(name) for name in trained(model)}
        self._max_norms = {name: config.clip.norm if clip else math.inf for name, clip in clipped.items()}

    def param_groups(self):
        optim = self.config.optim
        return [group | {"betas": optim.betas} for group in param_groups(self.model, optim.weight_decay)]

    def schedule(self, step):
        return schedule(self.config, step, self._steps_per_epoch)

    def set_groups(self, groups: Sequence[dict], values: Mapping[str, float]) -> None:
        decayed, plain, last = groups
        decayed["lr"] = plain["lr"] = values["lr"]
        last["lr"] = values["lr_last_layer"]
        decayed["weight_decay"] = last["weight_decay"] = values["weight_decay"]

    def forward(self, network: Callable, batch: Batch, rows: slice, step: int, values: Mapping[str, float]) -> Outcome:
        views = [getattr(batch, name) for name in VIEWS]
        output: XKDOutput = network(
            *(view if view is None else view[rows] for view in views),
            step=step,
            first_row=self.place.rank * len(batch.keys) + rows.start,
            teacher_temperature_video=values["teacher_temperature_video"],
            teacher_temperature_audio=values["teacher_temperature_audio"],
            cross_modal=step >= self.config.optim.recon_only_epochs * self._steps_per_epoch,
        )
        return Outcome(output.loss, output.parts | output.stats, (output.teacher_mean_video, output.teacher_mean_audio))

    def max_norms(self, step):
        frozen = last_layer_frozen(self.config, step, self._steps_per_epoch)
        return tuple(0.0 if frozen and name.endswith(LAST_LAYER) else norm for name, norm in self._max_norms.items())

    def averages(self):
        return {f"ema_{modality}": pairs for modality, pairs in self.model.teacher_pairs().items()}

    def applied(self, video_mean, audio_mean):
        self.model.update_centers(video_mean, audio_mean)


class PretrainJob(Job):
    """`job: pretrain`."""

    def check(self):
        config = self.config
        config.loss.check_batch(clips_at_once(config, self.place), config.train.accumulation)

    def open_loader(self, device: Literal["cpu", "gpu"]) -> Loader:
        config, place = self.config, self.place
        return Loader(
            open_shards(config.data.train, config.data),
            config.data,
            preset="pretrain",
            batch_size=config.train.global_batch // place.world_size,
            seed=config.seed,
            rank=place.rank,
            world_size=place.world_size,
            device=device,
            exchange=exchange,
        )

    def open_task(self, steps_per_epoch):
        return Pretraining(self.config, self.place, steps_per_epoch)

    def open_probe(self, device, steps_per_epoch):
        return Probe(self.config, self.place, device, steps_per_epoch) if self.config.probe.every_epochs else None

    def open_pictures(self, steps_per_epoch):
        log = self.config.log
        shown = log.pictures_every_epochs and (log.tensorboard or log.wandb)
        return Pictures(self.config, self.place, steps_per_epoch) if shown else None

    def open_alarm(self):
        config = self.config
        clips = clips_at_once(config, self.place)
        return CollapseAlarm(config.log.collapse, num_outputs=config.model.projector.out_dim, clips=clips)

    def utilisation(self):
        return Utilisation.of(self.config, self.place.world_size)

    def opening(self, utilisation):
        return opening(self.config, utilisation)
