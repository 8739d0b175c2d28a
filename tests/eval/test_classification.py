"""Fine-tuning and linear training on real ranks take the steps of one process in plain torch."""

import numpy as np
import pytest

from tests.eval.plain_training import (
    CLASSES,
    STEPS_PER_EPOCH,
    batch_of,
    by_the_trainer,
    classifiers_of,
    configuration,
    in_plain_torch,
)
from xkd.eval.classification import Classification
from xkd.eval.cost import step_flops
from xkd.train.distributed import Place

ALONE = Place(0, 0, 1)
STEPS = 6
LINEAR = {
    "job": "linear",
    "optim": {"lr": 0.1, "base_batch": 16, "final_lr": 0.01, "warmup_epochs": 0.5},
    "classifier": {"dropout": 0.3},
}
CASES = {
    "finetune": {},
    "linear": LINEAR,
    "several labels": {"dataset": "fsd50k", "classifier": {"dropout": 0.3}},
    "smoothed": {"classifier": {"smoothing": 0.2}},
}


@pytest.mark.parametrize(
    ("case", "ranks", "stage", "accumulation"),
    [
        ("finetune", 2, 1, 1),
        ("finetune", 2, 2, 2),
        ("finetune", 2, 3, 1),
        ("finetune", 1, 0, 2),
        ("linear", 2, 1, 1),
        ("linear", 2, 3, 1),
        ("several labels", 2, 1, 1),
        ("smoothed", 2, 1, 1),
    ],
)
@pytest.mark.long
def test_steps_are_those_of_one_process_in_plain_torch(architecture, case, ranks, stage, accumulation):
    train = {"global_batch": 8, "epochs": 2, "accumulation": accumulation}
    config = configuration(architecture, **CASES[case], train=train, deepspeed={"zero_stage": stage})
    losses, weights = by_the_trainer(architecture, config, STEPS, ranks)
    expected_losses, expected = in_plain_torch(architecture, config, STEPS)
    np.testing.assert_allclose(losses, expected_losses, rtol=2e-5)
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(weights[name], tensor, rtol=1e-3, atol=2e-5, err_msg=name)


def test_a_frozen_encoder_stays_as_it_is_bit_for_bit(architecture):
    config = configuration(architecture, **LINEAR)
    before = classifiers_of(architecture, config).state_dict()
    _, weights = by_the_trainer(architecture, config, 2, ranks=1)
    changed = {name for name, tensor in before.items() if not np.array_equal(weights[name], tensor.numpy())}
    assert changed == {f"{name}.head.{part}" for name in ("video", "audio") for part in ("weight", "bias")}


def test_the_learning_rate_follows_the_schedule_and_each_group_its_layer(architecture):
    config = configuration(architecture)
    task = Classification(config, ALONE, classifiers_of(architecture, config), STEPS_PER_EPOCH)
    groups = task.param_groups()
    rates = [task.schedule(step)["lr"] for step in (0, 1, 2, 8)]
    assert rates == pytest.approx([0.0, 0.005, 0.01, 0.0005])  # at half the batch that the rate is stated for
    task.set_groups(groups, {"lr": 1.0})
    assert {group["lr"] for group in groups} == {0.25, 0.5, 1.0}  # of a net with one block
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}


def test_a_constant_rate_is_a_schedule_that_ends_where_it_starts(architecture):
    optim = {"lr": 1e-3, "base_batch": 8, "final_lr": 1e-3}
    config = configuration(architecture, optim=optim, classifier={})
    task = Classification(config, ALONE, classifiers_of(architecture, config), STEPS_PER_EPOCH)
    assert [task.schedule(step)["lr"] for step in range(8)] == pytest.approx([1e-3] * 8)


def test_several_clips_of_a_sample_are_so_many_examples_with_its_label(architecture):
    config = configuration(architecture, classifier={})
    data = config.data.model_copy(update={"train_clips": 2})
    two = config.model_copy(update={"data": data})
    batch = batch_of(architecture, 0)
    halves = batch.__class__(**vars(batch) | {"labels": batch.labels[:4], "targets": batch.targets[:4], "keys": batch.keys[:4]})
    doubled = batch.__class__(**vars(batch) | {"labels": batch.labels[:4].repeat_interleave(2)})
    losses = []
    for settings, given, rows in ((two, halves, slice(2, 4)), (config, doubled, slice(4, 8))):
        model = classifiers_of(architecture, settings)
        for classifier in model.values():
            classifier.head.weight.data.fill_(0.1)
            classifier.head.bias.data.copy_(classifier.head.bias.data.new_tensor([0.0, 0.5, -0.5]))
        task = Classification(settings, ALONE, model, STEPS_PER_EPOCH)
        losses.append(task.forward(model, given, rows, 0, {}).loss.item())
    assert losses[0] == pytest.approx(losses[1])


def test_the_cost_of_a_step_is_three_times_the_forward_of_what_is_trained(architecture):
    shapes = {"video": architecture.data.video_shape, "audio": architecture.data.audio_shape}
    forward, trained = (
        step_flops(classifiers_of(architecture, configuration(architecture, **case)).to("meta").eval(), shapes)
        for case in (LINEAR, {})
    )
    assert trained == 3 * forward
    # Video has 2 x 4 x 4 tokens of 768 values, audio 65 of 16; a class token each, and one block of width 24.
    tokens = {"video": (33, 32 * 768), "audio": (66, 65 * 16)}
    macs = sum(n * 12 * 24**2 + 2 * n**2 * 24 + values * 24 + 24 * CLASSES for n, values in tokens.values())
    assert forward == 2 * macs
