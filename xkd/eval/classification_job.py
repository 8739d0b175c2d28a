"""The kind of run that a linear evaluation or a fine-tuning is."""

import copy
from collections.abc import Mapping
from typing import Literal

import torch

from xkd.eval.classification import Classification, Classifiers
from xkd.eval.classifier import Classifier
from xkd.eval.cost import step_flops
from xkd.eval.scoring import Scoring
from xkd.eval.splits import Fold, open_folds
from xkd.eval.training_config import FoldConfig
from xkd.model.config import Modality
from xkd.model.vit import Encoder
from xkd.pipelines.loader import Loader
from xkd.train.distributed import Place, exchange
from xkd.train.engine import precision_of
from xkd.train.task import Job, Probe, clips_at_once, trained
from xkd.train.utilisation import Utilisation


class ClassificationJob(Job):
    """`job: linear` and `job: finetune`: classifiers over copies of these encoders, trained on a fold and tested on it."""

    config: FoldConfig

    def __init__(self, encoders: Mapping[Modality, Encoder], config: FoldConfig, place: Place):
        super().__init__(config, place)
        self._encoders = encoders
        self._fold: Fold | None = None
        self._classifiers = self._shape = Classifiers()

    def check(self):
        clips = clips_at_once(self.config, self.place)
        if self.config.classifier.mixing.is_on and clips % 2:
            raise ValueError(
                f"classifier.mixing: mixes clips in pairs, and a rank has {clips} at once: make train.global_batch a multiple of "
                f"{2 * self.place.world_size * self.config.train.accumulation}, or remove it"
            )

    def open_loader(self, device: Literal["cpu", "gpu"]) -> Loader:
        config, place = self.config, self.place
        (self._fold,) = open_folds(config.dataset, config.data)
        train = self._fold.train
        how = config.classifier
        settings = {"dropout": how.dropout, "frozen": config.job == "linear", "seed": config.seed}
        for name, encoder in self._encoders.items():
            self._classifiers[name] = Classifier(copy.deepcopy(encoder), len(train.shards.classes), **settings)
        self._shape = copy.deepcopy(self._classifiers).to("meta").eval()  # the engine may cut the parameters up
        return Loader(
            train.shards,
            config.data,
            preset=config.job,
            batch_size=config.train.global_batch // place.world_size,
            seed=config.seed,
            rank=place.rank,
            world_size=place.world_size,
            device=device,
            exchange=exchange,
            streams=tuple(self._encoders),
            ids=train.ids,
        )

    def open_probe(self, device, steps_per_epoch) -> Probe:
        return Scoring(self.config, self.place, device, self._fold.test, self._shape, steps_per_epoch)

    def open_task(self, steps_per_epoch):
        return Classification(self.config, self.place, self._classifiers, steps_per_epoch)

    def utilisation(self):
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        shapes = {"video": self.config.data.video_shape, "audio": self.config.data.audio_shape}
        flops = step_flops(self._shape, shapes)
        return Utilisation(self.place.world_size, gpu, flops * self.config.data.train_clips)

    def opening(self, utilisation):
        config, fold = self.config, self._fold
        optim, classes = config.optim, len(fold.train.shards.classes)
        peak = optim.lr * config.train.global_batch / optim.base_batch
        held = sum(param.numel() for param in self._shape.parameters()) / 1e6
        learning = sum(param.numel() for param in trained(self._shape).values()) / 1e6
        below = f", times {optim.layer_decay:g} with every layer below the head" if optim.layer_decay < 1 else ""
        rows = {
            "data": f"{len(fold.train.ids)} training and {len(fold.test.ids)} test samples of {classes} classes",
            "lr": f"{optim.lr:g} x {config.train.global_batch}/{optim.base_batch} = {peak:g}{below}",
            "network": f"{held:.1f} M parameters, {learning:.1f} M of them trained; "
            f"{utilisation.flops_per_clip / 1e9:.3g} GFLOP a sample and step",
            "numbers": f"{precision_of(config)}, ZeRO stage {config.deepspeed.zero_stage}",
        }
        name = f"{config.dataset.name}, fold {fold.number}" if fold.number else config.dataset.name
        return [f"  {name}", *(f"  {title:8} {text}" for title, text in rows.items())]
