"""Training classifiers from labels, as a task of the trainer.

Shapes: B clips, K classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from xkd.eval.layer_decay import param_groups
from xkd.eval.mixing import mix, targets_of
from xkd.eval.training_config import FoldConfig
from xkd.features import clips_of
from xkd.model.config import Modality
from xkd.pipelines.loader import Batch
from xkd.schedules import warmup_cosine
from xkd.train.distributed import Place
from xkd.train.task import Outcome, Task, trained


class Classifiers(nn.ModuleDict):
    """A classifier a modality. They have no parameter in common, so that each learns as it would alone."""

    def forward(self, clips: Mapping[Modality, Tensor], *, step: int = 0, first_row: int = 0) -> dict[Modality, Tensor]:
        """Logits [B, K] of each modality; see Classifier.forward."""
        return {name: classifier(clips[name], step=step, first_row=first_row) for name, classifier in self.items()}


class Classification(Task):
    """One classifier a modality, trained on the labels of augmented clips. Its loss is the sum of theirs."""

    config: FoldConfig

    def __init__(self, config: FoldConfig, place: Place, model: Classifiers, steps_per_epoch: int):
        super().__init__(config, place, model.train())
        self._steps_per_epoch = steps_per_epoch
        self._scales: list[float] = []
        self._multi_label = config.dataset.task.multi_label
        self._num_classes = next(iter(model.values())).head.out_features

    def param_groups(self):
        optim = self.config.optim
        groups = [group for model in self.model.values() for group in param_groups(model, optim.weight_decay, optim.layer_decay)]
        self._scales = [group.pop("lr_scale") for group in groups]
        return [group | {"betas": optim.betas} for group in groups]

    def schedule(self, step):
        optim, train = self.config.optim, self.config.train
        steps, warmup = train.epochs * self._steps_per_epoch, optim.warmup_epochs * self._steps_per_epoch
        scale = train.global_batch / optim.base_batch
        return {"lr": warmup_cosine(step, steps, warmup, optim.lr * scale, optim.final_lr * scale)}

    def set_groups(self, groups: Sequence[dict], values: Mapping[str, float]) -> None:
        for group, scale in zip(groups, self._scales, strict=True):
            group["lr"] = values["lr"] * scale

    def forward(self, network: Callable, batch: Batch, rows: slice, step: int, values: Mapping[str, float]) -> Outcome:
        device = next(self.model.parameters()).device
        per_sample = self.config.data.train_clips
        parts = slice(rows.start * per_sample, rows.stop * per_sample)
        targets = (batch.targets if self._multi_label else batch.labels)[rows].to(device).repeat_interleave(per_sample, dim=0)
        clips = clips_of(batch)
        examples = {name: self._example(clips[name][parts].to(device), targets, step) for name in self.model}
        first_row = self.place.rank * len(batch.keys) * per_sample + parts.start
        logits = network({name: clip for name, (clip, _) in examples.items()}, step=step, first_row=first_row)
        loss_of = binary_cross_entropy_with_logits if self._multi_label else cross_entropy
        losses = {name: loss_of(logits[name].float(), targets_BK) for name, (_, targets_BK) in examples.items()}
        return Outcome(sum(losses.values()), {f"loss_{name}": loss.detach() for name, loss in losses.items()})

    def max_norms(self, step):
        return tuple(math.inf for _ in trained(self.model))

    def _example(self, clip: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The clips as the network is to see them, and their targets [B, K]."""
        how = self.config.classifier
        if self._multi_label:
            return clip, targets
        if how.mixing.is_on:
            return mix(clip, targets, self._num_classes, how.smoothing, how.mixing, seed=self.config.seed, step=step)
        return clip, targets_of(targets, self._num_classes, how.smoothing)
