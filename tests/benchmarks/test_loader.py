from functools import partial

import pytest

from xkd.benchmarks import loader
from xkd.benchmarks.harness import measure
from xkd.benchmarks.loader import GEOMETRIES, Work, setup
from xkd.benchmarks.results import read_csv


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_round_loads_one_epoch(tiny_shards, geometry):
    work = Work(tiny_shards, GEOMETRIES[geometry](), batch_size=4)
    (found,) = measure(partial(setup, work), ["xkd"], rounds=2, warmup=0)
    assert found.items == 12


@pytest.mark.long
def test_the_command_makes_its_own_shards_and_records_each_geometry(tmp_path):
    assert loader.main(["--clips", "8", "--rounds", "1", "--csv", str(tmp_path / "rows.csv")]) == 0
    rows = read_csv(tmp_path / "rows.csv")
    assert [row["case"].split()[0] for row in rows] == ["geometry=demo", "geometry=default"]
    assert all(float(row["peak_mib"]) > 0 and float(row["items"]) == 8 for row in rows)
