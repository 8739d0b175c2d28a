"""Composition of the loss: weights, alignment groups, temperatures."""

import pytest
import torch
from pydantic import ValidationError

from xkd.kernels.mmd import mmd
from xkd.losses import LossConfig, LossWeights, Ranks, alignment, grouped_mmd, total


def outputs(views, samples=6, dim=5, seed=0):
    return torch.randn(views, samples, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def untouched(rows):
    raise AssertionError("a group within the rank needs no other rank")


NO_OTHERS = Ranks(0, 2, gather=untouched, sum=untouched)


def test_the_defaults_are_the_methods():
    config = LossConfig()
    assert dict(config.weights) == {"recon": 5, "cmkd": 1, "align": 1}
    assert (config.video.teacher_temperature_at(0), config.audio.teacher_temperature_at(0)) == (0.1, 0.07)
    assert (config.video.student_temperature, config.audio.student_temperature) == (0.1, 0.1)
    assert (config.video.center_momentum, config.align_group, config.norm_pix_loss) == (0.9, "global", True)


def test_total_is_the_weighted_mean_of_the_terms_that_count():
    parts = {"recon": torch.tensor(2.0), "align": torch.tensor(8.0), "recon_video": torch.tensor(99.0)}
    assert total(parts, LossWeights(recon=5, cmkd=0, align=1)) == (5 * 2 + 8) / 6


@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_groups_are_consecutive_samples_with_all_their_views(group):
    video, audio = outputs(2), outputs(3, seed=1)
    values = []
    for start in range(0, 6, group):
        x, y = (features[:, start : start + group].reshape(-1, 5) for features in (video, audio))
        values.append(mmd(torch.cat([x, y]), len(x)))
    torch.testing.assert_close(grouped_mmd(video, audio, group), sum(values) / len(values))


def test_one_group_of_all_samples_is_global():
    features = {"student_video": outputs(2), "student_audio": outputs(3, seed=1)}
    features |= {"teacher_video": outputs(1, seed=2), "teacher_audio": outputs(1, seed=3)}
    torch.testing.assert_close(alignment(features, 6, NO_OTHERS), alignment(features, "global"))


def test_global_alignment_compares_the_samples_of_all_ranks():
    """The ranks' shares add up to the values of the whole, and their gradients average to its gradient."""
    views = {"student_video": 2, "student_audio": 3, "teacher_video": 1, "teacher_audio": 1}
    whole = {name: outputs(count, seed=seed).requires_grad_() for seed, (name, count) in enumerate(views.items())}
    expected = alignment(whole, 6, NO_OTHERS)
    sum(expected).backward()
    parts = [{name: feature.detach()[:, start : start + 2].clone() for name, feature in whole.items()} for start in (0, 2, 4)]
    shares = []

    def gather_of(role):
        return lambda rows: torch.stack([torch.cat([part[f"{role}_video"], part[f"{role}_audio"]]).flatten(0, 1) for part in parts])

    for rank, part in enumerate(parts):
        gathers = map(gather_of, ("student", "teacher"))

        def add(values):
            shares.append(values)
            return values

        own = {name: feature.requires_grad_() for name, feature in part.items()}
        sum(alignment(own, "global", Ranks(rank, 3, lambda rows, gathers=gathers: next(gathers)(rows), add))).backward()
        for name, feature in own.items():
            torch.testing.assert_close(feature.grad / 3, whole[name].grad[:, 2 * rank : 2 * rank + 2])
    torch.testing.assert_close(tuple(sum(shares)), tuple(value.detach() for value in expected))


@pytest.mark.parametrize(
    ("group", "samples", "accumulation", "message"),
    [
        (32, 48, 1, "32 does not divide the 48 samples"),
        (32, 16, 2, "32 does not divide the 16 samples"),
        ("global", 16, 2, "2 micro-batches: set train.accumulation to 1"),
    ],
)
def test_a_group_that_would_be_split_is_refused_with_the_fix(group, samples, accumulation, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(align_group=group).check_batch(samples, accumulation)


@pytest.mark.parametrize(("group", "samples", "accumulation"), [(32, 64, 4), (1, 7, 1), ("global", 7, 1)])
def test_a_batch_of_whole_groups_is_accepted(group, samples, accumulation):
    LossConfig(align_group=group).check_batch(samples, accumulation)


def test_without_alignment_no_batch_is_refused():
    LossConfig(align_group=32, weights={"align": 0}).check_batch(5, accumulation=3)


def test_a_temperature_ramp_is_linear_and_stays_at_its_end():
    config = LossConfig.model_validate({"video": {"teacher_temperature": {"start": 0.09, "end": 0.11, "epochs": 30}}})
    assert [config.video.teacher_temperature_at(epoch) for epoch in (0, 15, 30, 99)] == pytest.approx([0.09, 0.10, 0.11, 0.11])


def test_a_students_temperature_is_its_own_unless_audios_serves_both():
    fields = {"video": {"student_temperature": 0.2}, "audio": {"student_temperature": 0.3}}
    rules = ("per_modality", "audio_for_both")
    own, shared = (LossConfig.model_validate({**fields, "student_temperature": rule}) for rule in rules)
    assert [own.student_temperature_of(modality) for modality in ("video", "audio")] == [0.2, 0.3]
    assert [shared.student_temperature_of(modality) for modality in ("video", "audio")] == [0.3, 0.3]


def test_one_changed_field_keeps_the_other_defaults_of_its_modality():
    config = LossConfig.model_validate({"audio": {"center_momentum": 0.5}})
    assert config.audio.teacher_temperature_at(0) == 0.07


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": {"recon": 0, "cmkd": 0, "align": 0}}, "nothing would be trained"),
        ({"weights": {"recon": -1}}, "greater than or equal to 0"),
        ({"align_group": 0}, "align_group"),
        ({"video": {"teacher_temperature": 0.0}}, "greater than 0"),
        ({"video": {"teacher_temperature": {"start": 0.1, "end": 0.2}}}, "epochs"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        LossConfig.model_validate(fields)
