"""What two real ranks keep of a run at every ZeRO stage and precision: steps that are not taken, averages."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.plain import STEPS_PER_EPOCH, Track, arrays, batch_of, configuration
from tests.train.ranks import on_ranks
from xkd.train.engine import deepspeed_settings

# Every kind of optimizer that DeepSpeed has for us.
ENGINES = [(0, "fp32"), (1, "bf16"), (2, "autocast"), (3, "fp32"), (3, "bf16")]
engines = pytest.mark.parametrize(("stage", "precision"), ENGINES)


def trainer_of(place, stage, precision):
    from xkd.train.pretraining import Pretraining
    from xkd.train.trainer import Trainer

    overrides = (f"deepspeed.zero_stage={stage}", f"train.precision={precision}", "train.max_skipped_steps=2")
    return Trainer(Pretraining(configuration(overrides), place, STEPS_PER_EPOCH))


def steps(trainer, first, last):
    numbers = [trainer.step(batch_of(trainer.config, step, trainer.place), step) for step in range(first, last)]
    return Track(numbers, arrays(trainer.weights()))


def skip_steps(place, stage, precision, folder):
    """Weights and moments before and after two steps that rank 1 alone finds are not finite, and what the last one raised."""
    from xkd.train.trainer import NonFinite

    trainer = trainer_of(place, stage, precision)
    object.__setattr__(trainer.config, "run_dir", Path(folder))
    steps(trainer, 0, 2)

    def state():
        moments = trainer.engine._optimizer.state.values()
        found = [value.clone() for of_param in moments for value in of_param.values() if torch.is_tensor(value)]
        return arrays(trainer.weights()), [tensor.numpy() for tensor in found]

    before = state()
    batch = batch_of(trainer.config, 2, place, poisoned=(2,))
    assert trainer.step(batch, 2)["skipped_steps"] == 1
    try:
        trainer.step(batch, 3)
    except NonFinite as error:
        return before, state(), str(error)
    raise AssertionError("two steps in a row were skipped and nothing was raised")


@pytest.mark.long
@engines
def test_a_step_that_one_rank_cannot_take_changes_nothing_on_any_and_is_listed(stage, precision, tmp_path):
    results = on_ranks(skip_steps, stage, precision, str(tmp_path))
    for (weights, moments), (weights_after, moments_after), message in results:
        assert "step 3: loss or gradients were not finite in 2 steps in a row" in message
        assert len(moments) == len(moments_after) > 0
        for name, weight in weights.items():
            np.testing.assert_array_equal(weights_after[name], weight, err_msg=name)
        for moment, after in zip(moments, moments_after, strict=True):
            np.testing.assert_array_equal(after, moment)
    text = (tmp_path / "skipped" / "step-000003.json").read_text()
    assert all(f"step 2 clip {position}" in text for position in range(8))


def average_in_bf16(place, stage):
    """The teachers that the network has, the averages behind them, and the precision of a centre."""
    trainer = trainer_of(place, stage, "bf16")
    steps(trainer, 0, 2)
    zero, teachers = trainer.engine.zero, dict(trainer.model.video_teacher.named_parameters())
    own = {name: zero.join(teacher, zero.weights(teacher)) for name, teacher in teachers.items()}
    averages = {name: weight for name, weight in trainer.weights() if name.startswith("video_teacher.")}
    assert {weight.dtype for weight in own.values()} == {torch.bfloat16}
    assert trainer.model.video_teacher.center.dtype == torch.float32
    return arrays((name, weight.float()) for name, weight in own.items()), arrays(averages.items())


@pytest.mark.long
@pytest.mark.parametrize("stage", [1, 3])
def test_bf16_teachers_are_rounded_from_averages_that_are_not(stage):
    (own, averages), _ = on_ranks(average_in_bf16, stage)
    rounded = {name: torch.from_numpy(averages[f"video_teacher.{name}"]).bfloat16().float().numpy() for name in own}
    for name, weight in own.items():
        np.testing.assert_array_equal(rounded[name], weight, err_msg=name)
    assert any((rounded[name] != averages[f"video_teacher.{name}"]).any() for name in own)


def test_deepspeed_is_told_the_batch_and_never_to_clip():
    overrides = ("train.accumulation=2", "loss.align_group=2", "deepspeed.zero_stage=3", "train.precision=bf16")
    settings = deepspeed_settings(configuration(overrides), world_size=2)
    assert settings["train_batch_size"] == 8
    assert settings["train_micro_batch_size_per_gpu"] == settings["gradient_accumulation_steps"] == 2
    assert settings["gradient_clipping"] == 0.0
    assert settings["zero_optimization"]["stage"] == 3
    assert settings["data_types"] == {"grad_accum_dtype": "fp32"}


def test_overrides_add_to_what_the_trainer_sets():
    overrides = ("deepspeed.overrides={zero_optimization: {reduce_bucket_size: 1000}}",)
    zero = deepspeed_settings(configuration(overrides), world_size=1)["zero_optimization"]
    assert zero["reduce_bucket_size"] == 1000
    assert zero["stage"] == 1
