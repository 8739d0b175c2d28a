"""The step that the benchmark takes: ours and the straightforward one are the same step."""

import itertools

import pytest
import torch

from tests.model.tiny import shake
from xkd.benchmarks import model
from xkd.benchmarks.model import OURS, PLAIN, PROVIDERS, Step
from xkd.benchmarks.results import read_csv
from xkd.config import load
from xkd.jobs import schemas

PARTS = ["forward", "backward", "clip", "optimizer", "teachers and centres"]


def small(*overrides):
    return load("pretrain/demo.yaml", ["train.global_batch=3", "model.encoder.depth=2", *overrides], schemas())


def after_steps(config, provider, steps):
    step = Step(config, provider, torch.float64)
    shake(step.xkd, scale=0.05)
    for _ in range(steps):
        assert step(lambda part: None) == 3
    return step.xkd.state_dict()


@pytest.mark.parametrize(
    ("sharing", "teacher_view", "refinement"),
    [("none", "global", "mean"), ("student", "local", "softmax"), ("both", "global", "none")],
)
def test_three_steps_of_both_providers_end_in_the_same_state(sharing, teacher_view, refinement):
    config = small(f"model.sharing={sharing}", f"model.teacher_view={teacher_view}", f"model.refinement={refinement}")
    start, ours, plain = after_steps(config, OURS, 0), after_steps(config, OURS, 3), after_steps(config, PLAIN, 3)
    assert ours.keys() == plain.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-6, atol=1e-9, msg=name)
    still = {name for name in ours if torch.equal(ours[name], start[name])}
    assert still == {name for name in ours if name.endswith("head.gains")}


@pytest.mark.parametrize("changes", [[], ["model.cls_token=false"], ["loss.norm_pix_loss=false"]], ids=str)
def test_both_providers_agree_in_float32(changes):
    model.check_agreement(small(*changes))


@pytest.mark.parametrize(
    ("part", "spoil"),
    [
        ("the loss", lambda loss, parts, means: (loss * (1 + 1e-4), parts, means)),
        ("a part", lambda loss, parts, means: (loss, {**parts, "v2a": parts["v2a"] * (1 + 1e-4)}, means)),
        ("a gradient", lambda loss, parts, means: (loss + 0.02 * (loss - loss.detach()), parts, means)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_disagreement_is_found(part, spoil, monkeypatch):
    plain = PROVIDERS[PLAIN]

    def forward(*args):
        return spoil(*plain.forward(*args))

    monkeypatch.setitem(PROVIDERS, PLAIN, model.Provider(forward, plain.clip, plain.adamw, plain.follow))
    with pytest.raises(AssertionError):
        model.check_agreement(small())


def test_spinning_threads_are_refused(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with pytest.raises(ValueError, match="OMP_WAIT_POLICY is not PASSIVE"):
        model.main([])


@pytest.mark.long
def test_the_command_records_every_part_of_both(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    options = ["--config", "pretrain/demo.yaml", "--batch-sizes", "2", "--rounds", "1", "--csv", str(tmp_path / "rows.csv")]
    assert model.main(options) == 0
    rows = read_csv(tmp_path / "rows.csv")
    expected = itertools.product(("local", "global"), (OURS, PLAIN), ("total", *PARTS))
    assert [(row["case"].split("teacher_view=")[1].split()[0], row["provider"], row["part"]) for row in rows] == list(expected)
    assert all(float(row["wall_p50_s"]) > 0 for row in rows)
    assert capsys.readouterr().out.count("times our CPU time") == 2
