"""Combinations that cannot be trained are refused with the fix, before there is a process group."""

import pytest
import torch.distributed as dist
from pydantic import ValidationError

from tests.train.plain import configuration
from xkd.train.distributed import Place
from xkd.train.pretraining import PretrainJob
from xkd.train.run import check

REFUSED = {
    "bf16 without masters": (
        ("train.precision=bf16", "deepspeed.zero_stage=0"),
        "train.precision: 'bf16' has no fp32 masters .* set zero_stage to 1, 2 or 3, or precision to autocast",
    ),
    "replicated averages of weights in parts": (
        ("ema.form=replicated", "deepspeed.zero_stage=3"),
        "ema.form: 'replicated' cannot be had at deepspeed.zero_stage 3.* set it to sharded, or remove it",
    ),
    "averages in parts of whole weights": (
        ("ema.form=sharded", "deepspeed.zero_stage=2"),
        "ema.form: 'sharded' cannot be had at deepspeed.zero_stage 2.* set it to replicated, or remove it",
    ),
    "a global group in micro-batches": (
        ("train.accumulation=2",),
        "loss.align_group: 'global' .* 2 micro-batches: set train.accumulation to 1, or align_group to a number",
    ),
    "a time in which nothing would count": (
        ("optim.recon_only_epochs=1", "loss.weights.recon=0"),
        "optim.recon_only_epochs: in the first 1 epochs reconstruction alone counts, but loss.weights.recon is 0",
    ),
    "a stage in the overrides": (
        ("deepspeed.overrides={zero_optimization: {stage: 3}}",),
        "zero_optimization.stage cannot be set here",
    ),
    "gradients that leave the device": (
        ("deepspeed.overrides={zero_optimization: {offload_optimizer: {device: cpu}}}",),
        "zero_optimization.offload_optimizer cannot be set here",
    ),
}
REFUSED_ON_RANKS = {
    "a batch that ranks cannot share": (3, (), r"train.global_batch: 8 clips cannot be cut into 3 equal parts"),
    "a batch that micro-batches cannot share": (
        2,
        ("train.accumulation=3", "loss.align_group=1"),
        r"cannot be cut into 6 equal parts \(2 ranks x train.accumulation 3\): choose a multiple of 6",
    ),
    "a group that ranks would split": (4, ("loss.align_group=4",), "loss.align_group: 4 does not divide the 2 samples"),
    "a group that micro-batches would split": (
        2,
        ("loss.align_group=4", "train.accumulation=2"),
        "loss.align_group: 4 does not divide the 2 samples .* train.global_batch, accumulation or the number of ranks",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_combination_is_refused(name):
    overrides, message = REFUSED[name]
    with pytest.raises(ValidationError, match=message):
        configuration(overrides)


@pytest.mark.parametrize("name", REFUSED_ON_RANKS)
def test_what_does_not_fit_the_ranks_is_refused_before_they_meet(name):
    ranks, overrides, message = REFUSED_ON_RANKS[name]
    with pytest.raises(ValueError, match=message):
        check(PretrainJob(configuration(overrides), Place(0, 0, ranks)))
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    "overrides", [("train.precision=bf16",), ("ema.form=sharded", "deepspeed.zero_stage=3"), ("ema.form=replicated",)]
)
def test_what_can_be_trained_is_not_refused(overrides):
    configuration(overrides)
