import numpy as np
import pytest

from tests.train.parity import FP32, errors
from tests.train.plain import STEPS_PER_EPOCH, Track, arrays, batch_of, configuration
from tests.train.ranks import on_ranks
from xkd.benchmarks.engines import ALONE, DDP, EXCHANGES, STEPPERS

STEPS = 8


def train(place, provider, overrides):
    """The provider's steps on the clips of this rank."""
    config = configuration(overrides)
    trainer = EXCHANGES[provider].open(config, place, STEPS_PER_EPOCH)
    numbers = [trainer.step(batch_of(config, step, place), step) for step in range(STEPS)]
    return Track(numbers, arrays(trainer.weights()))


@pytest.mark.long
@pytest.mark.parametrize("overrides", [(), ("loss.align_group=2", "train.accumulation=2")], ids=str)
def test_ddp_takes_the_steps_that_one_process_takes_on_the_whole_batch(overrides):
    first, second = on_ranks(train, DDP, overrides)
    for name, weight in first.weights.items():
        np.testing.assert_array_equal(weight, second.weights[name], err_msg=name)
    apart = errors(first, overrides)
    assert apart.loss <= FP32, apart
    assert max(apart.trained, apart.averages, apart.centers) <= 1e-4, apart


@pytest.mark.long
def test_ranks_that_send_nothing_drift_apart():
    first, second = on_ranks(train, ALONE, ())
    name = "video_student.encoder.norm.weight"
    assert not np.array_equal(first.weights[name], second.weights[name])


def test_a_provider_changes_the_stage_and_the_compiling_and_nothing_else():
    config = configuration(("deepspeed.zero_stage=1",))
    for provider in (STEPPERS | EXCHANGES).values():
        applied = provider.apply(config)
        assert applied.deepspeed.zero_stage == (1 if provider.stage is None else provider.stage)
        assert applied.train.compile == bool(provider.compile)
        assert applied.model_copy(update={"train": config.train, "deepspeed": config.deepspeed}) == config


def test_weights_of_bf16_are_trained_where_something_keeps_masters():
    config = configuration(("train.precision=bf16",))
    able = [name for name, provider in EXCHANGES.items() if provider.missing(config) is None]
    assert able == ["zero 1", "zero 2", "zero 3"]
    assert "fp32 masters" in EXCHANGES[DDP].missing(config)
    assert not any(provider.missing(configuration(())) for provider in EXCHANGES.values())
