from pathlib import Path

import pytest

from xkd.benchmarks import order
from xkd.benchmarks.order import NODES, SETS, SETTINGS, quality
from xkd.benchmarks.results import as_text, read_csv

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results" / "order.csv"


def test_the_command_records_every_setting(tmp_path, capsys):
    options = ["--sets", "kinetics_sound", "--rounds", "1", "--csv", str(tmp_path / "rows.csv")]
    assert order.main(options) == 0
    rows = read_csv(tmp_path / "rows.csv")
    assert [row["setting"] for row in rows] == list(SETTINGS)
    assert all(float(row["wall_p50_s"]) > 0 and row["cpu"] and row["commit"] for row in rows)
    assert f"window_{NODES[0]}" in capsys.readouterr().out


def test_a_batch_that_nodes_cannot_share_is_refused():
    with pytest.raises(ValueError, match="--global-batch 100: is no multiple"):
        order.main(["--global-batch", "100"])


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_committed_numbers_are_those_of_the_order_as_it_is(setting):
    committed = [row for row in read_csv(COMMITTED) if (row["set"], row["setting"]) == ("kinetics_sound", setting)][-1]
    found = as_text(quality(SETS["kinetics_sound"], setting, int(committed["global_batch"])))
    assert found == {name: committed[name] for name in found}


@pytest.mark.parametrize("name", SETS)
def test_the_committed_numbers_cover_every_setting(name):
    rows = [row for row in read_csv(COMMITTED) if row["set"] == name]
    assert {row["setting"] for row in rows} == set(SETTINGS)
    assert all(row["commit"] and not row["commit"].endswith("-dirty") for row in rows)
