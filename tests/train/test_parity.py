"""Two ranks under DeepSpeed take the steps of one process in plain torch; parity.py prints what is asserted here."""

import numpy as np
import pytest

from tests.train.parity import (
    BETWEEN_STAGES,
    BF16,
    FP32,
    FP32_CASES,
    HALF_CASES,
    SHARDED,
    STAGES,
    errors,
    in_plain_torch,
    on_two_ranks,
)
from tests.train.plain import STEPS_PER_EPOCH, configuration
from xkd.train.pretraining import schedule

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("name", "stage"), [(name, stage) for name, (_, stages) in FP32_CASES.items() for stage in stages], ids=str
)
def test_fp32_losses_and_weights_are_those_of_one_process(name, stage):
    overrides, _ = FP32_CASES[name]
    found = on_two_ranks(overrides, stage)
    apart = errors(found, overrides)
    assert apart.loss <= FP32, apart
    assert max(apart.trained, apart.averages, apart.centers) <= 1e-4, apart
    for step, numbers in enumerate(found.numbers):
        values = schedule(configuration(overrides), step, STEPS_PER_EPOCH)
        assert {name: numbers[name] for name in values} == values


@pytest.mark.parametrize("name", HALF_CASES)
def test_half_precision_stays_near_fp32_and_the_stages_near_each_other(name):
    overrides, stages = HALF_CASES[name]
    tracks = {stage: on_two_ranks(overrides, stage) for stage in stages}
    for track in tracks.values():
        assert 1e-5 < errors(track, overrides).loss <= BF16
    for stage in stages[1:]:
        np.testing.assert_allclose(tracks[stage].curve("loss"), tracks[stages[0]].curve("loss"), rtol=BETWEEN_STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_frozen_last_layer_stays_as_it_is_bit_for_bit(stage):
    found = on_two_ranks(("optim.freeze_last_layer_epochs=1",), stage, steps=STEPS_PER_EPOCH)
    start = in_plain_torch((), steps=0)
    for modality in ("video", "audio"):
        name = f"{modality}_student.head.directions"
        np.testing.assert_array_equal(found.weights[name], start.weights[name])
        before_it = f"{modality}_student.head.layers.2.weight"
        assert not np.array_equal(found.weights[before_it], start.weights[before_it])


# Stage, precision, where the alignment groups lie: within a rank only rank 1 sees what is not a number.
POISONED = [*((stage, "fp32") for stage in STAGES), *((stage, "bf16") for stage in SHARDED), (1, "autocast"), (3, "autocast")]


@pytest.mark.parametrize(("stage", "precision"), POISONED)
def test_a_clip_of_one_rank_that_is_not_a_number_skips_the_step_on_all(stage, precision):
    """Plain torch leaves the same steps out, so a moment, an average or a centre that moved would show in the steps after."""
    overrides, steps, poisoned = ("loss.align_group=2", f"train.precision={precision}"), 8, (0, 3, 4)
    found, expected = on_two_ranks(overrides, stage, steps, poisoned), in_plain_torch(overrides, steps, poisoned)
    assert [numbers["skipped_steps"] for numbers in found.numbers] == [1, 1, 1, 2, 3, 3, 3, 3]
    np.testing.assert_array_equal(np.isnan(found.curve("loss")), np.isnan(expected.curve("loss")))
    apart = errors(found, overrides, poisoned)
    assert apart.loss <= (FP32 if precision == "fp32" else BF16), apart
