"""What goes on from a checkpoint is the run that was saved: bit for bit at the same stage and world size, by rounding at others."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from safetensors.numpy import load_file

from tests.train.plain import STEPS_PER_EPOCH, Track, arrays, batch_of, configuration
from tests.train.ranks import on_ranks

FP32 = 1e-5
# Every kind of optimizer that DeepSpeed has for us.
ENGINES = [(0, "fp32"), (1, "fp32"), (1, "bf16"), (2, "fp32"), (2, "autocast"), (3, "fp32"), (3, "bf16")]
ACCUMULATED = ("loss.align_group=2", "train.accumulation=2")

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def restored(place, overrides, folder, first):
    """A trainer with what is saved in `folder` after `first` steps; at step 0 a new one."""
    from xkd.train import checkpoint, snapshot
    from xkd.train.pretraining import Pretraining
    from xkd.train.trainer import Trainer

    trainer = Trainer(Pretraining(configuration((*overrides, f"run_dir={folder}")), place, STEPS_PER_EPOCH))
    found, warnings = checkpoint.newest(Path(folder))
    assert (found.step if found else 0, warnings) == (first, [])
    if found:
        snapshot.restore(trainer, found)
    dist.barrier()  # all have looked
    return trainer


def save(saver, trainer, step):
    saver.save(trainer, {"step": step, "milestone": False, "counts": trainer.counts})


def part_of_a_run(place, overrides, first, last, folder, save_after=()):
    """Steps `first` to `last`, after those that are saved in `folder`, and saved there; also after others, while it goes on.

    Step 1 cannot be taken.
    """
    from xkd.train.saving import Saver

    trainer = restored(place, overrides, folder, first)
    saver, numbers = Saver(trainer.config, place), []
    for step in range(first, last):
        numbers.append(trainer.step(batch_of(trainer.config, step, place, poisoned=(1,)), step))
        if step + 1 in (*save_after, last):
            save(saver, trainer, step + 1)
    saver.wait()
    assert not saver.failures
    return Track(numbers, arrays(trainer.weights()))


def save_again(place, overrides, first, folder):
    """Saves as one step later what is saved."""
    from xkd.train.saving import Saver

    trainer = restored(place, overrides, folder, first)
    saver = Saver(trainer.config, place)
    save(saver, trainer, first + 1)
    saver.wait()
    assert not saver.failures


def stored(folder, step):
    """The weights, and the moments put together, of a checkpoint."""
    checkpoint = folder / "checkpoints" / f"step-{step:06d}"
    pieces = {}
    for file in sorted((checkpoint / "moments").iterdir()):
        for name, values in load_file(file).items():
            pieces.setdefault(name, []).append(values)
    return load_file(checkpoint / "weights.safetensors"), {name: np.concatenate(values) for name, values in pieces.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize(("stage", "precision"), ENGINES)
def test_the_steps_after_a_restart_are_those_of_a_run_without_one_bit_for_bit(stage, precision, tmp_path):
    overrides = (*ACCUMULATED, f"deepspeed.zero_stage={stage}", f"train.precision={precision}")
    straight, _ = on_ranks(part_of_a_run, overrides, 0, 5, str(tmp_path / "straight"), (3,))
    killed = shutil.copytree(tmp_path / "straight", tmp_path / "resumed")
    shutil.rmtree(killed / "checkpoints" / "step-000005")
    (killed / "checkpoints" / "latest").write_text("step-000003\n")
    resumed, _ = on_ranks(part_of_a_run, overrides, 3, 5, str(killed))
    assert repr(resumed.numbers) == repr(straight.numbers[3:])
    assert_same(resumed.weights, straight.weights)
    for found, expected in zip(stored(tmp_path / "resumed", 5), stored(tmp_path / "straight", 5), strict=True):
        assert_same(found, expected)


CHAINS = {  # ranks, ZeRO stage, precision of each part of a run
    "ranks 2 to 1 to 2": [(2, 1), (1, 1), (2, 1)],
    "stages 1 to 2 to 3": [(2, 1), (2, 2), (2, 3)],
    "stages and ranks at once": [(2, 3), (4, 0), (1, 2)],
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of two ranks at stage 1, and its directory, where the first two steps are saved too."""
    folder = tmp_path_factory.mktemp("straight")
    track, _ = on_ranks(part_of_a_run, ("deepspeed.zero_stage=1",), 0, 9, str(folder), (2,))
    return track, folder


@pytest.mark.parametrize("name", CHAINS)
def test_another_division_goes_on_to_the_same_losses(name, straight, tmp_path):
    straight, _ = straight
    numbers = []
    for part, (ranks, stage) in enumerate(CHAINS[name]):
        overrides = (f"deepspeed.zero_stage={stage}",)
        track, *_ = on_ranks(part_of_a_run, overrides, 3 * part, 3 * part + 3, str(tmp_path / "chain"), ranks=ranks)
        numbers += track.numbers
    found, expected = (np.array([[row["loss"], row["grad_norm"]] for row in rows]) for rows in (numbers, straight.numbers))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=FP32)
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-4)
    assert [row["skipped_steps"] for row in numbers] == [row["skipped_steps"] for row in straight.numbers]


@pytest.mark.parametrize(("ranks", "stage"), [(1, 0), (3, 1), (3, 2), (2, 3), (3, 3)])
def test_whatever_the_division_all_of_the_state_is_put_back(ranks, stage, straight, tmp_path):
    _, folder = straight
    saved = shutil.copytree(folder / "checkpoints" / "step-000002", tmp_path / "checkpoints" / "step-000002").parent.parent
    overrides = (f"deepspeed.zero_stage={stage}", f"train.global_batch={4 * ranks}")
    on_ranks(save_again, overrides, 2, str(saved), ranks=ranks)
    for found, expected in zip(stored(saved, 3), stored(saved, 2), strict=True):
        assert_same(found, expected)
