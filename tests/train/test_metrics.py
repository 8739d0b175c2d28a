"""What stands in metrics.jsonl, and what is shown beside it."""

import json
import math

from xkd.config import load
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place
from xkd.train.metrics import MetricsWriter
from xkd.train.pretraining import PretrainJob


def writer(run_dir, *fields, start_step=0, enabled=True):
    config = load("configs/pretrain/demo.yaml", [f"run_dir={run_dir}", *fields], {"pretrain": PretrainConfig})
    run_dir.mkdir(exist_ok=True)
    alarm = PretrainJob(config, Place(0, 0, 1)).open_alarm()
    return MetricsWriter(config, alarm=alarm, total_steps=10, start_step=start_step, enabled=enabled)


def record(run_dir, start_step, losses):
    with writer(run_dir, start_step=start_step) as metrics:
        for step, loss in losses.items():
            metrics.write(step, {"loss": loss})
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_replaces_the_rows_of_the_steps_it_does_again(tmp_path):
    record(tmp_path, 0, {1: 0.9, 2: 0.8, 3: 0.7})
    rows = record(tmp_path, 2, {3: 0.75, 4: 0.6})
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 0.9), (2, 0.8), (3, 0.75), (4, 0.6)]


def test_a_number_that_is_not_finite_is_null_and_the_file_stays_valid_json(tmp_path):
    (row,) = record(tmp_path, 0, {1: math.nan})
    assert row["loss"] is None


def test_a_rank_that_is_not_the_first_writes_and_says_nothing(tmp_path, capsys):
    with writer(tmp_path, enabled=False) as metrics:
        metrics.say(["hello"])
        metrics.advance()
        metrics.write(1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_a_collapse_is_shown_once_and_stands_in_every_row_that_has_it(tmp_path, capsys):
    with writer(tmp_path, "log.collapse.lines=2") as metrics:
        for step, deviation in enumerate((0.5, 0.0, 0.0, 0.0, 0.5), start=1):
            metrics.write(step, {"feature_std_video": deviation})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["collapse_alarms"] for row in rows] == [0, 0, 1, 1, 0]
    shown = capsys.readouterr().out
    assert shown.count("WARNING") == 1
    assert "WARNING at step 3: collapse alarm: feature_std_video is 0, below 0.01" in shown
