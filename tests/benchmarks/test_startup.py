import pytest

from xkd.benchmarks import startup
from xkd.benchmarks.harness import TOTAL
from xkd.benchmarks.results import read_csv
from xkd.benchmarks.startup import MARKS


def test_clips_that_fill_no_shard_are_refused():
    with pytest.raises(ValueError, match="not all multiples of 1000"):
        startup.main(["--clips", "1500"])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_command_times_the_parts_of_a_start(tmp_path):
    overrides = ["train.global_batch=4", "optim.base_batch=4"]
    assert startup.main(["--rounds", "1", "--clips", "2000", "--csv", str(tmp_path / "rows.csv"), *overrides]) == 0
    total, *parts = read_csv(tmp_path / "rows.csv")
    assert total["part"] == TOTAL
    assert [row["part"] for row in parts] == list(MARKS)
    assert all(float(row["wall_p50_s"]) > 0 and row["clips"] == "2000" for row in parts)
    assert sum(float(row["wall_p50_s"]) for row in parts) == pytest.approx(float(total["wall_p50_s"]), rel=1e-3)
