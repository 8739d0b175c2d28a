"""What `xkd plan` says, from results that are made here and from those that are committed."""

from datetime import date
from pathlib import Path

import pytest

from xkd.benchmarks.results import COLUMNS, append_csv
from xkd.benchmarks.scaling import Cluster
from xkd.cli import main
from xkd.config import load
from xkd.jobs import schemas
from xkd.plan.estimate import Estimate
from xkd.plan.figures import results_folder, stored_bytes
from xkd.plan.gpus import parse_fleet
from xkd.plan.tables import reading, storage, time

ROOT = Path(__file__).parents[2]
TODAY = date(2026, 12, 1)


def estimate(gpus="16xH100", overrides=("train.global_batch=512",), results=None, **known):
    config = load("pretrain/xkd.yaml", list(overrides), schemas())
    known = {"clips": 240_000, "results": results or results_folder(), "today": TODAY, "cluster": Cluster()} | known
    return Estimate(config, "pretrain/xkd.yaml", parse_fleet(gpus), **known)


def lines(*tables):
    return {line.what: line.figure for table in tables for line in table}


def step_row(gpu, items_per_s, config="pretrain/xkd.yaml"):
    case = f"config={config} batch=32 zero_stage=1 precision=autocast ranks=1"
    facts = {
        "date": "2026-11-30T12:00:00+00:00",
        "benchmark": "step",
        "provider": "deepspeed",
        "case": case,
        "part": "total",
        "gpu": gpu,
    }
    return dict.fromkeys(COLUMNS, "") | facts | {"items_per_s": str(items_per_s), "commit": "0123456789"}


def test_a_plan_worked_out_by_hand():
    found = lines(time(plan := estimate(clips_per_gpu=500)), reading(plan), storage(plan))
    assert found["steps an epoch"].value == 240_000 // 512
    assert found["steps"].value == 800 * (240_000 // 512)
    seconds = 32 / 500 / (found["efficiency"].value / 100)
    assert found["the whole run"].value == pytest.approx(found["steps"].value * seconds)
    assert found["all GPUs"].value == pytest.approx(512 / seconds)
    assert found["from storage a node"].value == pytest.approx(512 / seconds / 2 * found["read of a clip"].value)
    assert found["shards"].value == 240_000 * (found["video of a clip"].value + found["sound of a clip"].value)
    assert (found["one GPU alone"].how, found["all GPUs"].how) == ("given", "model")


def test_one_gpu_has_nobody_to_wait_for():
    assert lines(time(estimate("H100", ())))["efficiency"].value == 100


def test_without_a_measurement_speed_is_a_guess_and_so_is_what_follows_from_it():
    found = lines(time(estimate(results=ROOT / "tests")), reading(estimate()))
    assert {found[name].how for name in ("one GPU alone", "all GPUs", "the whole run", "clips a node")} == {"guess"}
    assert "no GPU was measured" in found["one GPU alone"].source


def test_a_measured_step_of_that_gpu_takes_the_place_of_the_guess_and_shows_its_age(tmp_path):
    others = [step_row("NVIDIA A100-SXM4-80GB", 100), step_row("NVIDIA H100 80GB HBM3", 200, "pretrain/demo.yaml")]
    append_csv(tmp_path / "step.csv", others)
    append_csv(tmp_path / "gpu_check.csv", [step_row("NVIDIA H100 80GB HBM3", 612.5)])
    assert estimate("16xA100-40GB", results=tmp_path).rate.how == "guess"
    found = estimate(results=tmp_path).rate
    assert (found.value, found.how) == (612.5, "measured")
    assert found.source.startswith("gpu_check.csv, commit 0123456, 1 day old, NVIDIA H100 80GB HBM3; config=pretrain/xkd.yaml")


def test_the_committed_results_have_bytes_of_a_clip_and_cpu_time():
    video, audio = stored_bytes(results_folder(), TODAY, profile="pretrain", codec="vp9", audio="pcm16")
    assert 50e3 < video.value < 500e3
    assert audio.value == pytest.approx(320e3, rel=0.01)
    assert "convert.csv, commit" in video.source
    assert "loader.csv, commit" in estimate().cpu_ms.source


def test_a_form_that_was_never_measured_is_answered_with_those_that_were():
    with pytest.raises(ValueError, match=r"pretrain av1: no committed result .* h264, hevc, mjpeg, vp9"):
        stored_bytes(results_folder(), TODAY, profile="pretrain", codec="av1", audio="pcm16")


def test_shards_that_are_there_are_counted(tiny_shards):
    found = lines(
        storage(plan := estimate("H100", (f"data.train={tiny_shards}", "train.global_batch=2", "loss.align_group=2"), clips=None))
    )
    samples = len(plan.shards)
    assert (found["clips of the data set"].value, found["clips of the data set"].how) == (samples, "counted")
    tars = sum(path.stat().st_size for path in Path(tiny_shards).glob("*.tar"))
    assert 0.5 * tars < found["shards"].value < tars  # a tar has headers and padding, too


@pytest.mark.parametrize(
    ("gpus", "overrides", "says"),
    [
        ("12xH100", (), "train.global_batch: 256 clips cannot be dealt evenly to 12 GPUs"),
        ("16xH100", (), "loss.align_group: 32 does not divide the 16 samples"),
    ],
)
def test_what_the_run_would_refuse_the_plan_refuses(gpus, overrides, says):
    with pytest.raises(ValueError, match=says):
        estimate(gpus, overrides)


def test_numbers_that_give_no_plan_are_refused():
    with pytest.raises(ValueError, match=r"train.global_batch: 512 is more than the 500 clips"):
        estimate(clips=500)
    with pytest.raises(ValueError, match="--mfu: 35 is more than all of the peak"):
        estimate(cluster=Cluster(mfu=35))


def test_the_number_of_clips_must_be_known():
    with pytest.raises(ValueError, match=r"data.train: shards/kinetics400/train is no shard folder .* --dataset-clips"):
        estimate(clips=None)


def test_the_command_prints_every_table_and_what_each_kind_of_number_is_worth(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    small = ["model.size=tiny", "train.global_batch=32"]
    assert main(["plan", "pretrain/xkd.yaml", *small, "--gpus", "A10", "--dataset-clips", "20000"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("pretrain/xkd.yaml on 1 x A10 (24 GiB, 125 TFLOP/s) on 1 node of 1, autocast\n")
    for title in ("Storage", "Time", "Reading", "Memory of a GPU"):
        assert f"\n{title}" in told
    assert "| 1 (this run) |" in told
    assert "\nguess: nothing was measured" in told
    assert main(["plan", "pretrain/xkd.yaml", "--gpus", "8xZ1", "--dataset-clips", "20000"]) == 2
    assert "is not one of H100" in capsys.readouterr().err
