"""A rank's place, and what ranks gather and add up, on real gloo ranks."""

import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from xkd.pipelines.shards.shard_files import StorageError
from xkd.train.distributed import VARIABLES, Place, find_place, ranks_of, together

WORLD_SIZE, ROWS, WIDTH = 2, 3, 4


def run_rank(rank, store, results):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD_SIZE)
    ranks = ranks_of(Place(rank, rank, WORLD_SIZE))
    own = torch.arange(ROWS * WIDTH, dtype=torch.float32).view(ROWS, WIDTH) + 100 * rank
    results[rank] = ranks.count, ranks.gather(own.T.requires_grad_()).tolist(), ranks.sum(own[0]).tolist()
    dist.destroy_process_group()


def test_ranks_gather_in_their_order_and_add_up(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(run_rank, (tmp_path / "store", results), nprocs=WORLD_SIZE)
        results = dict(results)
    first = torch.arange(ROWS * WIDTH, dtype=torch.float32).view(ROWS, WIDTH)
    expected = WORLD_SIZE, torch.stack([first.T, first.T + 100]).tolist(), (2 * first[0] + 100).tolist()
    assert results == dict.fromkeys(range(WORLD_SIZE), expected)


def run_slow_rank(rank, store, results, failing):
    """Rank 1 takes longer than other operations may, and rank `failing` raises."""
    limit = timedelta(seconds=1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD_SIZE, timeout=limit)

    def work():
        time.sleep(3 * rank)
        if rank == failing:
            raise StorageError("no answer")
        return rank

    try:
        results[rank] = together(work)
    except StorageError as error:
        results[rank] = str(error)
    dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.parametrize(
    ("failing", "expected"),
    [(None, {0: 0, 1: 1}), (0, dict.fromkeys((0, 1), "no answer")), (1, dict.fromkeys((0, 1), "no answer"))],
)
def test_ranks_wait_for_the_slowest_and_fail_together(tmp_path, failing, expected):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(run_slow_rank, (tmp_path / "store", results, failing), nprocs=WORLD_SIZE)
        assert dict(results) == expected


@pytest.fixture
def bare(monkeypatch):
    """No launcher's variables, and none left behind."""
    for name in (*VARIABLES, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_a_plain_start_is_the_only_rank(bare):
    assert find_place() == Place(rank=0, local_rank=0, world_size=1)


def test_several_slurm_tasks_without_a_launcher_are_refused(bare):
    bare.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(ValueError, match="4 SLURM tasks were started, but no launcher told them their ranks"):
        find_place()


def test_half_an_environment_is_refused_by_name(bare):
    bare.setenv("RANK", "0")
    with pytest.raises(ValueError, match="but not LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT"):
        find_place()
