"""A trainer's steps against the same steps in plain torch, and what stops a run."""

import copy
import math
from itertools import islice

import pytest
import torch
import torch.multiprocessing as mp

from xkd.config import load
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.train.config import PretrainConfig
from xkd.train.distributed import find_place
from xkd.train.engine import join_process_group
from xkd.train.pretraining import Pretraining
from xkd.train.trainer import NonFinite, Trainer

STEPS = 3
BATCH = 4
FIELDS = (
    f"train.global_batch={BATCH}",
    "train.epochs=2",
    "optim.warmup_epochs=0",
    "optim.base_batch=4",
    "clip.norm=0.01",  # low enough to bite
    "ema={video: 0.9, audio: 0.8}",
)

pytestmark = pytest.mark.long


def configuration(shards, stage):
    fields = (*FIELDS, f"data.train={shards}", f"run_dir={shards}/unused", f"deepspeed.zero_stage={stage}")
    return load("configs/pretrain/demo.yaml", fields, {"pretrain": PretrainConfig})


def prepared(shards, stage):
    """A trainer in a process group of one, and the batches of its first steps."""
    config = configuration(shards, stage)
    place = find_place()
    join_process_group()
    with Loader(ShardSet.open(shards), config.data, preset="pretrain", batch_size=BATCH, seed=config.seed) as loader:
        batches = list(islice(loader.epoch(0), STEPS))
    return Trainer(Pretraining(config, place, steps_per_epoch=len(batches))), batches


def plain_step(model: XKD, optimizer, batch, step, values, config):
    """Forward, backward, per-tensor clip, AdamW, moving average, centres: written out."""
    for group in optimizer.param_groups:
        group["lr"] = values["lr"]
    views = (batch.video_global, batch.video_local, batch.audio_global, batch.audio_local)
    temperatures = {name: value for name, value in values.items() if name.startswith("teacher_temperature")}
    output = model(*views, step=step, first_row=0, **temperatures)
    optimizer.zero_grad()
    output.loss.backward()
    for modality in ("video", "audio"):
        student = getattr(model, f"{modality}_student")
        for parameter in (*student.encoder.parameters(), *student.head.parameters()):
            if parameter.requires_grad:
                parameter.grad *= min(1.0, config.clip.norm / (parameter.grad.norm().item() + 1e-6))
    optimizer.step()
    for modality in ("video", "audio"):
        student, teacher = getattr(model, f"{modality}_student"), getattr(model, f"{modality}_teacher")
        for part in ("encoder", "head"):
            for ours, theirs in zip(getattr(teacher, part).parameters(), getattr(student, part).parameters(), strict=True):
                ours.data = values[f"ema_{modality}"] * ours.data + (1 - values[f"ema_{modality}"]) * theirs.data
        teacher.center = 0.9 * teacher.center + 0.1 * getattr(output, f"teacher_mean_{modality}")
    return output.loss.item()


def compare_with_plain_torch(_, shards, stage):
    trainer, batches = prepared(shards, stage)
    config, model = trainer.config, copy.deepcopy(trainer.model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    undecayed = [parameter for name, parameter in trainable if parameter.ndim < 2 or name.endswith(".bias")]
    decayed = [parameter for name, parameter in trainable if not (parameter.ndim < 2 or name.endswith(".bias"))]
    groups = [{"params": decayed, "weight_decay": config.optim.weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=config.optim.betas)
    for step, batch in enumerate(batches):
        values = trainer.task.schedule(step)
        found = trainer.step(batch, step)
        expected = plain_step(model, optimizer, batch, step, values, config)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
        assert found["skipped_steps"] == 0
    state = trainer.model.state_dict()
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(state[name], expected, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")
    for name in ("video_teacher.encoder.tokenizer.projection.weight", "audio_teacher.center", "video_student.decoder.mask_token"):
        assert not torch.equal(state[name], start[name]), f"{name} has not moved"


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_three_steps_are_those_of_plain_torch(tiny_shards, stage):
    mp.spawn(compare_with_plain_torch, (str(tiny_shards), stage), nprocs=1)


def poison_gradients(_, shards):
    trainer, batches = prepared(shards, stage=1)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    parameter = trainer.model.video_student.encoder.norm.weight
    parameter.register_hook(lambda gradient: gradient * math.nan)
    assert trainer.step(batches[0], 0)["skipped_steps"] == 1
    for step in range(1, 9):
        trainer.step(batches[step % STEPS], step)
    with pytest.raises(NonFinite, match="step 9: loss or gradients were not finite in 10 steps in a row"):
        trainer.step(batches[0], 9)
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())


def test_steps_without_finite_gradients_change_nothing_and_end_the_run(tiny_shards):
    mp.spawn(poison_gradients, (str(tiny_shards),), nprocs=1)
