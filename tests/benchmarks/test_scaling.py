import math
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest

from xkd.benchmarks.communication import DEEPSPEED, STAGES, Traffic, derived
from xkd.benchmarks.results import read_csv
from xkd.benchmarks.scaling import MEASURED, RANKS, VARIED, Cluster, Work, step
from xkd.config import load
from xkd.jobs import schemas
from xkd.train.utilisation import TERA, clip_cost

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scaling.md"
GRADIENTS = Traffic(DEEPSPEED, "all_reduce", calls=2, message_bytes=8e9, ranks=2)
WEIGHTS = Traffic(DEEPSPEED, "all_gather", calls=1, message_bytes=4e9, ranks=2)
WORK = Work(flops_per_clip=TERA, traffic=(GRADIENTS, WEIGHTS))
PLAIN = Cluster(clips=100, peak_tflops=1000, mfu=0.5, gpus_per_node=1, network_gb_per_s=40, latency_us=0, jitter=0)


@pytest.mark.parametrize("overlap", [False, True])
def test_one_gpu_has_all_of_its_speed(overlap):
    assert step(WORK, 1, Cluster(), overlap=overlap).efficiency == 1


def test_a_step_worked_out_by_hand():
    # 100 clips of 1 TFLOP at 500 TFLOP/s: 0.2 s. Two ranks send 8 GB and then 2 GB at 40 GB/s: 0.2 s and 0.05 s.
    found = step(WORK, 2, PLAIN, overlap=False)
    assert (found.computing, found.communicating, found.waiting) == (0.2, 0.25, 0)
    # Beside the backward, two thirds of 0.2 s, goes that much of the 0.2 s of reducing, and nothing of gathering.
    assert step(WORK, 2, PLAIN, overlap=True).communicating == pytest.approx(0.25 - 0.4 / 3)


def test_a_ring_over_nodes_is_as_fast_as_the_slower_of_node_and_network():
    times = [step(WORK, 2, replace(PLAIN, network_gb_per_s=speed), overlap=False).communicating for speed in (20, 360, 999)]
    assert times == [0.5, pytest.approx(10 / 360), pytest.approx(10 / 360)]
    assert step(WORK, 2, replace(PLAIN, gpus_per_node=2), overlap=False).communicating == pytest.approx(10 / 360)


def test_latency_counts_each_call_for_each_doubling_and_jitter_the_slowest_rank():
    late = step(WORK, 8, replace(PLAIN, latency_us=1e5), overlap=False)
    assert late.communicating - step(WORK, 8, PLAIN, overlap=False).communicating == pytest.approx(0.1 * 3 * 3)
    assert step(WORK, 8, replace(PLAIN, jitter=0.1), overlap=False).waiting == pytest.approx(0.02 * math.sqrt(2 * math.log(8)))


@pytest.mark.parametrize("overlap", [False, True])
def test_more_gpus_are_never_more_efficient_and_overlap_never_costs(overlap):
    found = [step(WORK, ranks, Cluster(), overlap=overlap).efficiency for ranks in RANKS]
    assert all(after <= before for before, after in pairwise(found))
    assert all(step(WORK, ranks, Cluster(), overlap=True).efficiency >= one for ranks, one in zip(RANKS, found, strict=True))


def test_every_assumption_is_varied_or_named_in_the_page():
    page = PAGE.read_text()
    for field in fields(Cluster):
        assert field.name in VARIED or f"`{field.name}`" in page, field.name


def test_what_was_logged_is_what_the_formula_says():
    measured = {}
    for row in filter(lambda row: row["caller"] == DEEPSPEED, read_csv(ROOT / MEASURED)):
        sizes = measured.setdefault((row["case"], row["precision"], int(row["stage"])), {})
        sizes[row["operation"]] = int(row["message_bytes"])
    assert {("pretrain/xkd.yaml model.size=tiny", "fp32", stage) for stage in STAGES} <= measured.keys()
    for (case, precision, stage), sizes in measured.items():
        config, *overrides = case.split()
        for operation, size in derived(clip_cost(load(config, overrides, schemas())), stage, precision).items():
            assert sizes[operation] == pytest.approx(size, rel=1e-3), (case, precision, stage)
