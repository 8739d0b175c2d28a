"""What stops a run."""

import math
from itertools import islice

import pytest
import torch
import torch.multiprocessing as mp

from xkd.config import load
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
