"""Classifiers trained in plain torch on the whole batch, written out, and by the trainer on real ranks; tiny, on noise."""

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tests.train.ranks import on_ranks
from xkd.eval.classification import Classification, Classifiers
from xkd.eval.classifier import Classifier
from xkd.eval.mixing import mix
from xkd.eval.training_config import FoldConfig
from xkd.pipelines.loader import Batch
from xkd.schedules import warmup_cosine
from xkd.train.trainer import Trainer

BATCH, CLASSES, STEPS_PER_EPOCH, SEED = 8, 3, 4, 5


def configuration(architecture, job="finetune", dataset="folder", **sections) -> FoldConfig:
    """The run of one fold, with these sections over a fine-tuning with everything switched on."""
    settings = {
        "job": job,
        "run_dir": "unused",
        "seed": SEED,
        "data": architecture.data,
        "dataset": {"name": dataset},
        "evaluated": {},
        "optim": {
            "lr": 2e-2,
            "base_batch": 2 * BATCH,
            "final_lr": 1e-3,
            "warmup_epochs": 0.5,
            "weight_decay": 0.1,
            "layer_decay": 0.5,
        },
        "classifier": {"dropout": 0.3, "smoothing": 0.1, "mixing": {"mixup": 0.8, "cutmix": 1.0}},
        "train": {"global_batch": BATCH, "epochs": 2},
    }
    return FoldConfig.model_validate(settings | sections)


def classifiers_of(architecture, config) -> Classifiers:
    net = architecture.build(seed=1)
    encoders = {"video": net.video_student.encoder, "audio": net.audio_student.encoder}
    settings = {"dropout": config.classifier.dropout, "frozen": config.job == "linear", "seed": config.seed}
    return Classifiers({name: Classifier(encoder, CLASSES, **settings) for name, encoder in encoders.items()})


def batch_of(architecture, step, rows=slice(0, BATCH)) -> Batch:
    """These rows of a step's clips, which are noise."""
    draw = torch.Generator().manual_seed(step)
    labels = torch.randint(CLASSES, (BATCH,), generator=draw)
    targets = (torch.rand(BATCH, CLASSES, generator=draw) < 0.4).float()
    clips = {
        "video_global": torch.randn(BATCH, *architecture.data.video_shape, generator=draw),
        "audio_global": torch.randn(BATCH, *architecture.data.audio_shape, generator=draw),
    }
    ids = torch.arange(BATCH)
    tensors = {"labels": labels, "targets": targets, "sample_ids": ids, "substituted": ids < 0, "valid": ids >= 0, **clips}
    return Batch(
        **{name: tensor[rows] for name, tensor in tensors.items()},
        keys=[f"clip {index}" for index in ids[rows].tolist()],
        video_local=None,
        audio_local=None,
    )


def in_plain_torch(architecture, config, steps) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses and weights of one process without an engine."""
    model = classifiers_of(architecture, config).train()
    depth, optim, how = len(model["video"].encoder.blocks), config.optim, config.classifier
    groups = [
        {
            "params": [param],
            "scale": optim.layer_decay ** (depth + 1 - layer_of(name, depth)),
            "weight_decay": optim.weight_decay if param.ndim > 1 else 0.0,
        }
        for name, param in model.named_parameters()
        if param.requires_grad
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=optim.betas)
    losses = []
    for step in range(steps):
        half = optim.base_batch / BATCH
        lr = warmup_cosine(step, 2 * STEPS_PER_EPOCH, STEPS_PER_EPOCH / 2, optim.lr / half, optim.final_lr / half)
        batch = batch_of(architecture, step)
        loss = 0
        for name, clips in (("video", batch.video_global), ("audio", batch.audio_global)):
            if config.dataset.task.multi_label:
                logits = model[name](clips, step=step)
                loss = loss + binary_cross_entropy_with_logits(logits, batch.targets)
            elif how.mixing.is_on:
                mixed, targets = mix(clips, batch.labels, CLASSES, how.smoothing, how.mixing, seed=SEED, step=step)
                loss = loss + cross_entropy(model[name](mixed, step=step), targets)
            else:
                loss = loss + cross_entropy(model[name](clips, step=step), batch.labels, label_smoothing=how.smoothing)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


def layer_of(name: str, depth: int) -> int:
    """The method's number of a parameter's layer, of its name alone."""
    _, part, *rest = name.split(".")
    if part == "encoder" and rest[0] == "tokenizer":
        return 0
    return int(rest[1]) + 1 if part == "encoder" and rest[0] == "blocks" else depth + 1


def by_the_trainer(architecture, config, steps, ranks) -> tuple[list[float], dict[str, np.ndarray]]:
    """The same of the trainer on real ranks."""
    return on_ranks(_train, architecture, config, steps, ranks=ranks)[0]


def _train(place, architecture, config, steps):
    trainer = Trainer(Classification(config, place, classifiers_of(architecture, config), STEPS_PER_EPOCH))
    size = BATCH // place.world_size
    rows = slice(place.rank * size, (place.rank + 1) * size)
    losses = [trainer.step(batch_of(architecture, step, rows), step)["loss"] for step in range(steps)]
    return losses, {name: tensor.detach().numpy().copy() for name, tensor in trainer.weights()}
