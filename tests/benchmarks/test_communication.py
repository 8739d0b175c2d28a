from functools import cache
from itertools import product

import pytest

from tests.train.plain import configuration
from xkd.benchmarks import communication
from xkd.benchmarks.communication import DEEPSPEED, OURS, ROUNDS, STAGES, WIRE, Traffic, derived, measure_stage
from xkd.benchmarks.results import read_csv
from xkd.train.utilisation import clip_cost

RANKS = 2


@cache
def measured(stage, *overrides):
    """The bytes of what is summed and gathered in a step of the tiny network, by caller and operation; and those on TCP."""
    traffic, wire = measure_stage(configuration(overrides), stage, RANKS, steps=2)
    return {(found.caller, found.operation): found for found in traffic}, wire


@pytest.mark.parametrize("operation", ROUNDS)
def test_one_rank_sends_nothing_and_many_send_each_byte_once_or_twice(operation):
    traffic = Traffic(DEEPSPEED, operation, calls=1, message_bytes=1000, ranks=RANKS)
    assert traffic.sent(1) == 0
    assert traffic.sent(2) == 500 * ROUNDS[operation]
    assert traffic.sent(10**6) == pytest.approx(1000 * ROUNDS[operation], rel=1e-5)


def test_rows_of_clips_grow_with_the_ranks_that_bring_them():
    rows = Traffic(OURS, "all_gather", calls=1, message_bytes=1000, ranks=2)
    assert [rows.sent(ranks) for ranks in (1, 2, 4)] == [0, 500, 1500]  # a rank's 500 bytes pass every other rank


@pytest.mark.long
@pytest.mark.parametrize(("stage", "precision"), [*product(STAGES, ["fp32"]), (1, "bf16"), (3, "bf16")])
def test_a_step_moves_the_gradients_and_weights_that_are_derived(stage, precision):
    traffic, _ = measured(stage, f"train.precision={precision}")
    hundredth = sum(of.sent(RANKS) for of in traffic.values()) / 100  # stage 3 also broadcasts some kilobytes
    large = {name: of.message_bytes for (caller, name), of in traffic.items() if caller == DEEPSPEED and of.sent(RANKS) > hundredth}
    expected = derived(clip_cost(configuration()), stage, precision)
    assert large == {operation: pytest.approx(size, rel=0.01) for operation, size in expected.items()}  # some padding


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_what_went_over_tcp_is_what_the_formula_says(stage):
    traffic, wire = measured(stage, "train.precision=fp32")
    sent = sum(found.sent(RANKS) for found in traffic.values())
    if stage == 3:
        sent += traffic[DEEPSPEED, "reduce_scatter"].sent(RANKS)  # gloo sums for all ranks, and each keeps its part
    assert sent == pytest.approx(wire, rel=0.02)


@pytest.mark.long
@pytest.mark.parametrize(("stage", "times"), [(1, 1), (2, 2)])
def test_accumulation_multiplies_what_stage_2_sends_and_not_what_stage_1_does(stage, times):
    accumulated, _ = measured(stage, "loss.align_group=2", "train.accumulation=2")
    at_once, _ = measured(stage, "loss.align_group=2")
    key = (DEEPSPEED, "all_reduce")
    assert accumulated[key].message_bytes == times * at_once[key].message_bytes


@pytest.mark.long
def test_the_command_writes_a_row_for_each_kind_of_call(tmp_path):
    options = ["--config", "pretrain/demo.yaml", "--csv", str(tmp_path / "rows.csv"), "--stages", "0", "1"]
    assert communication.main([*options, "--rounds", "1", "train.global_batch=4", "optim.base_batch=4"]) == 0
    rows = read_csv(tmp_path / "rows.csv")
    callers = {(row["stage"], row["caller"]) for row in rows}
    assert callers == set(product(("0", "1"), (DEEPSPEED, OURS, WIRE)))
    assert all(float(row["sent_bytes"]) > 0 and row["commit"] for row in rows)
