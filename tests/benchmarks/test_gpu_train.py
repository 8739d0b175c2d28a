import math

import pytest

from xkd.benchmarks.gpu_loader import shards_of
from xkd.benchmarks.gpu_train import (
    ALLOWED,
    CLIPS,
    CONFIG,
    LOGGING,
    RUNS,
    STEPS,
    Run,
    agreement,
    benchmark,
    fields,
    runs_compared,
    schedule,
    summary,
)
from xkd.config import load
from xkd.jobs import schemas

TRITON, TORCH = Run("bf16", 1, "triton"), Run("bf16", 1, "torch")


def rows(losses, **changes):
    numbers = {"grad_norm": 1.0, "skipped_steps": 0, "clips_per_second": 100.0, "data_wait_share": 0.25}
    return [{"step": step, "loss": loss} | numbers | changes for step, loss in enumerate(losses, 1)]


def test_a_finite_run_is_summed_up_after_its_warm_up():
    slow, steady = rows([4.0] * 10, clips_per_second=1.0), rows([3.0] * 5, mfu=0.3)
    (fact,) = summary(TRITON, slow + [row | {"mfu": 0.3} for row in steady]).facts
    assert (fact["run"], fact["first loss"], fact["last loss"], fact["clips/s"]) == ("bf16, ZeRO 1, triton", 4.0, 3.0, 100.0)
    assert (fact["MFU"], fact["share of waiting for data"], fact["peak GiB"]) == (0.3, 0.25, "")


def test_a_loss_that_is_not_finite_and_skipped_steps_are_wrong():
    assert summary(TRITON, rows([4.0, 3.0])).wrong == []
    assert summary(TRITON, rows([4.0, None])).wrong == ["bf16, ZeRO 1, triton: loss or gradients are not finite in step 2"]
    (wrong,) = summary(TRITON, rows([4.0, 3.0], skipped_steps=2)).wrong
    assert "2 of 2 steps were skipped" in wrong


@pytest.mark.parametrize("differing", ALLOWED)
def test_losses_that_are_further_apart_than_allowed_are_wrong_and_the_first_step_is_held_tighter(differing):
    first, later = ALLOWED[differing]
    assert agreement(TRITON, TORCH, differing, [4.0 * (1 + 0.9 * first), 4.0 * (1 - 0.9 * later)], [4.0, 4.0]).wrong == []
    assert len(agreement(TRITON, TORCH, differing, [4.0 * (1 + 1.1 * first), 4.0], [4.0, 4.0]).wrong) == 1
    assert len(agreement(TRITON, TORCH, differing, [4.0, 4.0 * (1 - 1.1 * later)], [4.0, 4.0]).wrong) == 1


def test_every_thing_that_runs_differ_in_is_compared_at_least_once():
    pairs = [(a, b) for a in RUNS for b in RUNS if sum(getattr(a, name) != getattr(b, name) for name in ALLOWED) == 1]
    assert {name for a, b in pairs for name in ALLOWED if getattr(a, name) != getattr(b, name)} == set(ALLOWED)


@pytest.mark.parametrize("ranks", [1, 8])
@pytest.mark.parametrize("run", RUNS, ids=str)
def test_every_run_is_one_that_training_takes_and_its_schedules_are_as_long_as_it_is(run, ranks):
    config = load(CONFIG, [*fields("shards", ranks), *run.overrides, *LOGGING], schemas())
    config.loss.check_batch(config.train.global_batch // ranks, config.train.accumulation)
    steps_per_epoch = CLIPS * ranks // config.train.global_batch
    assert math.ceil(config.train.epochs * steps_per_epoch) == STEPS
    assert 0 < config.optim.warmup_epochs * steps_per_epoch < STEPS


def test_a_benchmark_that_fails_is_wrong_by_its_last_line():
    found = benchmark("none", "--rounds", "1")
    assert found.rows == found.facts == []
    (wrong,) = found.wrong
    assert wrong.startswith("xkd bench none ended with 2: ")


def test_the_rows_of_a_benchmark_are_found(media):
    found = benchmark("decode", "--media", str(media), "--providers", "pyav", "--sizes", "128", "--clips", "2", "--rounds", "3")
    assert found.wrong == []
    assert {(row["provider"], row["part"]) for row in found.rows} == {("pyav", "total")}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_runs_through_the_launcher_are_compared_and_one_that_cannot_run_is_told(media):
    """The check's own way on a CPU: a small network, fewer steps, and Triton, which cannot run there."""
    runs = [Run("fp32", 1, "torch"), Run("fp32", 2, "torch"), Run("fp32", 1, "triton")]
    with shards_of(media, 8) as shards:
        overrides = (f"data.train={shards}", "train.global_batch=4", "optim.base_batch=4", *schedule(3, 2))
        first, second, apart, failed = runs_compared(runs, "pretrain/demo.yaml", overrides, steps=3, ranks=1)
    assert first.wrong == second.wrong == apart.wrong == []
    assert [found.facts[0]["run"] for found in (first, second)] == ["fp32, ZeRO 1, torch", "fp32, ZeRO 2, torch"]
    assert first.facts[0]["steps"] == 3
    assert float(apart.facts[0]["in any"]) < 1e-5
    (wrong,) = failed.wrong
    assert wrong.startswith("fp32, ZeRO 1, triton: ")
    assert "Triton's kernels cannot run on cpu" in wrong
