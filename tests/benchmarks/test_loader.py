from functools import partial
from pathlib import Path

import pytest

from xkd.benchmarks import loader, peers
from xkd.benchmarks.harness import measure
from xkd.benchmarks.loader import GEOMETRIES, setup, soak
from xkd.benchmarks.needs import Needs
from xkd.benchmarks.peers import Peer
from xkd.benchmarks.peers.work import Work
from xkd.benchmarks.results import COLUMNS, read_csv
from xkd.benchmarks.shards import given_or_made

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
RECORDED_BATCHES = 20_000


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_round_loads_one_epoch(tiny_shards, geometry):
    work = Work(tiny_shards, GEOMETRIES[geometry](), batch_size=4)
    (found,) = measure(partial(setup, work), ["xkd"], rounds=2, warmup=0)
    assert found.items == 12


@pytest.fixture(scope="module")
def shards():
    """16 clips of 5 s."""
    with given_or_made(None, 16) as folder:
        yield folder


@pytest.mark.long
def test_the_command_records_every_provider_stage_and_what_is_missing(shards, tmp_path, monkeypatch):
    monkeypatch.setitem(loader.PROVIDERS, "absent", Needs({"no_such_module": "No-Such"}))
    monkeypatch.setitem(peers.PEERS, "absent", Peer("none:none", Needs()))
    providers = ["xkd", "webdataset+pyav", "dali-reader", "absent"]
    arguments = ["--shards", str(shards), "--rounds", "1", "--geometry", "small", "--providers", *providers]
    assert loader.main([*arguments, "--csv", str(tmp_path / "rows.csv")]) == 0
    rows = read_csv(tmp_path / "rows.csv")
    totals = {row["provider"]: row for row in rows if row["peak_mib"]}
    assert list(totals) == providers[:-1]
    assert all(float(row["items"]) == 16 and float(row["cpu_ms_per_item"]) > 0 for row in totals.values())
    assert "webdataset " in totals["webdataset+pyav"]["versions"]
    assert {"read", "decode", "augment", "finish"} <= {row["part"] for row in rows if row["provider"] == "xkd"}
    assert {"decode: pyav", "resize: dali", "resize: torch", "sound: torchaudio"} <= {row["provider"] for row in rows}
    (missing,) = (row for row in rows if row["provider"] == "absent")
    assert missing["not_measured"] == "No-Such: No module named 'no_such_module'"
    assert missing["cpu_ms_per_item"] == ""
    assert "codec=vp9 128x128 clips=16" in missing["case"]


@pytest.mark.long
def test_the_command_makes_its_own_shards(tmp_path):
    arguments = ["--clips", "8", "--rounds", "1", "--codec", "mjpeg", "--providers", "xkd", "--csv", str(tmp_path / "rows.csv")]
    assert loader.main(arguments) == 0
    rows = read_csv(tmp_path / "rows.csv")
    assert "geometry=default codec=mjpeg 176x128 clips=8" in rows[0]["case"]
    assert float(rows[0]["items"]) == 8


def test_a_soak_says_how_much_memory_each_tenth_takes(shards):
    found = list(soak(Work(shards, GEOMETRIES["small"](), batch_size=4), batches=43))
    assert [tenth.part for tenth in found] == [f"batches {first}-{first + 3}" for first in range(1, 41, 4)]
    assert all(tenth.items == 16 and tenth.peak_mib > 100 for tenth in found)


@pytest.mark.soak
def test_memory_is_flat(shards):
    found = list(soak(Work(shards, GEOMETRIES["small"](), batch_size=4), RECORDED_BATCHES))
    first, *later = (tenth.peak_mib for tenth in found)
    assert max(later) < 1.05 * first


def test_committed_results_say_where_they_come_from():
    rows = read_csv(RESULTS / "loader.csv")
    assert rows
    for row in rows:
        assert tuple(row) == COLUMNS
        assert all(row[name] for name in ("date", "cpu", "commit", "command"))
        assert bool(row["cpu_ms_per_item"]) != bool(row["not_measured"])
        assert not row["commit"].endswith("-dirty")
