"""What stands in metrics.jsonl."""

import json
import math

from xkd.train.metrics import MetricsWriter

RATES = {"clips_per_second": 10.0, "data_wait_share": 0.1}


def record(run_dir, start_step, rows):
    with MetricsWriter(run_dir, total_steps=10, start_step=start_step, enabled=True) as metrics:
        for step, loss in rows.items():
            metrics.write(step, {"loss": loss, **RATES})
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_replaces_the_rows_of_the_steps_it_does_again(tmp_path):
    record(tmp_path, 0, {1: 0.9, 2: 0.8, 3: 0.7})
    rows = record(tmp_path, 2, {3: 0.75, 4: 0.6})
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 0.9), (2, 0.8), (3, 0.75), (4, 0.6)]


def test_a_number_that_is_not_finite_is_null_and_the_file_stays_valid_json(tmp_path):
    (row,) = record(tmp_path, 0, {1: math.nan})
    assert row["loss"] is None


def test_a_rank_that_is_not_the_first_writes_nothing(tmp_path):
    with MetricsWriter(tmp_path, total_steps=10, start_step=0, enabled=False) as metrics:
        metrics.advance()
        metrics.write(1, {"loss": 1.0, **RATES})
    assert list(tmp_path.iterdir()) == []
