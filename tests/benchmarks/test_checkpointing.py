import pytest

from xkd.benchmarks import checkpointing
from xkd.benchmarks.checkpointing import ALONE, BESIDE, STALL, WRITING, cost
from xkd.benchmarks.results import read_csv


def test_a_checkpoint_costs_its_stall_and_what_steps_beside_its_writing_take_longer():
    rounds = [{ALONE: 3.0, STALL: 0.5, BESIDE: 3.25}, {ALONE: 9.0, STALL: 9.0, BESIDE: 9.0}, {ALONE: 3.0, STALL: 0.5, BESIDE: 3.25}]
    assert cost(rounds) == 0.75
    assert cost([{ALONE: 3.0, STALL: 0.5, BESIDE: 2.5}]) == 0.5


@pytest.mark.long
@pytest.mark.parametrize(("stage", "ranks"), [(1, 1), (2, 2)])
def test_the_command_saves_whole_checkpoints_and_times_each_part(stage, ranks, tmp_path, capsys):
    options = ["--config", "pretrain/demo.yaml", "--ranks", str(ranks), "--rounds", "1", "--csv", str(tmp_path / "rows.csv")]
    overrides = ["train.global_batch=4", "optim.base_batch=4", f"deepspeed.zero_stage={stage}"]
    assert checkpointing.main([*overrides, *options, "--folder", str(tmp_path)]) == 0
    rows = read_csv(tmp_path / "rows.csv")
    assert [row["part"] for row in rows] == [ALONE, STALL, BESIDE, WRITING]
    assert all(float(row["wall_p50_s"]) > 0 and row["stage"] == str(stage) for row in rows)
    assert "(extrapolated)" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
