from dataclasses import replace

import pytest

from xkd.benchmarks import scale
from xkd.benchmarks.engines import ALONE, DDP
from xkd.benchmarks.harness import TOTAL, Measurement
from xkd.benchmarks.results import read_csv

TINY = ["train.epochs=40", "--clips", "2", "--rounds", "1", "--steps", "1"]


def measured(provider, clips, seconds):
    return Measurement(provider, TOTAL, 3, clips, seconds, seconds, seconds, seconds)


def test_efficiency_is_of_one_ranks_speed_and_communication_of_the_step_that_sends_nothing():
    part = replace(measured(DDP, 16, 0.1), part="forward")
    found = {1: [measured(ALONE, 8, 1.0)], 2: [measured(ALONE, 16, 1.25), measured(DDP, 16, 1.6), part]}
    assert scale.efficiencies(found) == [
        {"ranks": 2, "provider": ALONE, "clips_per_s": "12.8", "communication": "0.0%", "efficiency": "80.0%"},
        {"ranks": 2, "provider": DDP, "clips_per_s": "10", "communication": "21.9%", "efficiency": "62.5%"},
    ]
    del found[1]
    assert [row["efficiency"] for row in scale.efficiencies(found)] == ["", ""]


@pytest.mark.long
def test_the_command_measures_providers_on_two_ranks_beside_one_rank(tmp_path, capsys):
    path, providers = tmp_path / "rows.csv", [ALONE, DDP, "zero 1"]
    assert scale.main([*TINY, "--ranks", "2", "--providers", *providers, "--csv", str(path)]) == 0
    rows = read_csv(path)
    assert [(row["case"].split()[-1], row["provider"]) for row in rows] == [
        ("ranks=1", ALONE),
        *(("ranks=2", provider) for provider in providers),
    ]
    assert [float(row["items"]) for row in rows] == [2, 4, 4, 4]
    assert all(float(row["cpu_ms_per_item"]) > 0 and float(row["peak_mib"]) > 100 for row in rows)
    assert "communication" in capsys.readouterr().out


@pytest.mark.long
def test_one_rank_has_nothing_to_send_and_the_rows_say_so(tmp_path):
    path = tmp_path / "rows.csv"
    options = ["--ranks", "1", "--providers", ALONE, DDP, "zero 1", "--csv", str(path)]
    assert scale.main([*TINY, *options]) == 0
    reasons = {row["provider"]: row["not_measured"] for row in read_csv(path) if row["not_measured"]}
    assert reasons == dict.fromkeys([ALONE, DDP, "zero 1"], scale.NEEDS_RANKS)


def test_clips_that_split_an_alignment_group_are_refused_before_anything_is_started(tmp_path):
    with pytest.raises(ValueError, match=r"loss\.align_group: 4 does not divide the 2 samples"):
        scale.main(["loss.align_group=4", *TINY, "--ranks", "2", "--csv", str(tmp_path / "rows.csv")])


def test_a_batch_that_would_be_ignored_is_refused():
    with pytest.raises(ValueError, match=r"train\.global_batch: is set by --clips here"):
        scale.main(["train.global_batch=8", *TINY])
