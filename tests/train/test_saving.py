"""Saving on real ranks: what one of them cannot write is no checkpoint on any, and those before stay."""

import resource
from pathlib import Path

import pytest

from tests.train.plain import STEPS_PER_EPOCH, batch_of, configuration
from tests.train.ranks import on_ranks

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
LIMIT = 64 * 1024


def save_three_times(place, folder):
    """What has failed, and which checkpoints there are, after each of three; at the second, rank 1's disk is full."""
    from xkd.train import checkpoint
    from xkd.train.pretraining import Pretraining
    from xkd.train.saving import Saver
    from xkd.train.trainer import Trainer

    config = configuration((f"run_dir={folder}",))
    trainer, saver = Trainer(Pretraining(config, place, STEPS_PER_EPOCH)), Saver(config, place)
    trainer.step(batch_of(config, 0, place), 0)
    unlimited, found = resource.getrlimit(resource.RLIMIT_FSIZE), []
    for step in (1, 2, 3):
        full = step == 2 and place.rank == 1
        # A file that may not grow fails to be written as one on a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, unlimited[1]) if full else unlimited)
        saver.save(trainer, {"step": step, "milestone": False, "counts": trainer.counts})
        saver.wait()
        newest, warnings = checkpoint.newest(Path(folder))
        found.append((dict(saver.failures), newest.step, warnings))
    assert saver.stall_seconds > 0
    return found


def test_a_disk_that_is_full_on_one_rank_costs_one_checkpoint_and_is_told_on_all(tmp_path):
    first, second = on_ranks(save_three_times, str(tmp_path))
    assert first == second
    (failures, step, warnings), then, at_last = first
    assert (failures, step, warnings) == ({}, 1, [])
    failures, step, warnings = then
    assert failures.keys() == {2}
    assert failures[2].startswith("the checkpoint of step 2 could not be written: rank 1: ")
    assert "File too large" in failures[2]
    assert (step, warnings) == (1, [])
    assert at_last == (failures, 3, [])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["latest", "step-000001", "step-000003"]
