import pytest

from xkd.config import load
from xkd.jobs import schemas
from xkd.model.flops import Cost, Part
from xkd.plan.memory import by_stage, state_bytes, total, view_bytes

NETWORK = Cost({"students": Part(60, 60, 0, 3), "teachers": Part(40, 0, 0, 1)})  # P = 60, H = 100


@pytest.mark.parametrize(
    ("stage", "precision", "expected"),
    [
        (0, "fp32", {"weights": 400, "optimizer": 480, "gradients": 240}),
        (1, "fp32", {"weights": 400, "optimizer": 12 * 15, "gradients": 240 + 60}),
        (2, "autocast", {"weights": 400, "optimizer": 12 * 15, "gradients": 240 + 60}),
        (3, "fp32", {"weights": 100 + 400, "optimizer": 12 * 15, "gradients": 240 + 60}),
        (1, "bf16", {"weights": 200, "optimizer": 12 * 15, "averages": 160, "gradients": 240 + 60}),
        (3, "bf16", {"weights": 50 + 200, "optimizer": 12 * 15, "averages": 40, "gradients": 240 + 60}),
    ],
)
def test_the_formulas_by_hand_on_four_ranks(stage, precision, expected):
    assert state_bytes(NETWORK, stage, precision, ranks=4, whole_bucket=False) == expected


def test_a_gpu_allocates_the_whole_bucket():
    assert state_bytes(NETWORK, 1, "fp32", ranks=4, whole_bucket=True)["gradients"] == 4 * 500_000_000 + 60


def test_all_stages_that_the_trainer_takes_hold_the_same_activations_and_views():
    config = load("pretrain/demo.yaml", [], schemas())
    found = by_stage(config, 2, "bf16")
    assert list(found) == [1, 2, 3]
    assert len({parts["activations"] for parts in found.values()}) == 1
    assert found[1]["views"] == (config.data.prefetch + 1) * view_bytes(config, 8)
    assert total({"a": 1, "b": 2}) == 3
