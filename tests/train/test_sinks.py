"""TensorBoard and Weights & Biases."""

import json
import subprocess
import sys

import numpy as np
import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from xkd.config import load
from xkd.train import sinks
from xkd.train.config import PretrainConfig

ROW = {"loss": 1.5123, "recon_video": 1.2571, "grad_norm/video_student.head": 0.5339}


def configuration(run_dir, *fields):
    return load("configs/pretrain/demo.yaml", [f"run_dir={run_dir}", *fields], {"pretrain": PretrainConfig})


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("loss", "loss/loss"),
        ("v2a", "loss/v2a"),
        ("teacher_entropy_audio", "collapse/teacher_entropy_audio"),
        ("teacher_temperature_audio", "schedule/teacher_temperature_audio"),
        ("grad_norm", "grad_norm/grad_norm"),
        ("grad_norm/video_student.head", "grad_norm/video_student.head"),
        ("probe/knn_video", "probe/knn_video"),
        ("data_wait_share", "data/data_wait_share"),
        ("substituted", "data/substituted"),
        ("mfu", "speed/mfu"),
        ("epoch", "run/epoch"),
    ],
)
def test_metrics_stand_in_sections(name, tag):
    assert sinks.tag(name) == tag


def test_tensorboard_holds_what_was_written_and_a_resumed_run_writes_over_it(tmp_path):
    for start_step, values in ((0, {1: 1.0, 2: 2.0, 3: 3.0}), (2, {3: 30.0})):
        board = sinks.TensorBoard(configuration(tmp_path), start_step)
        for step, value in values.items():
            board.write(step, {"loss": value, "grad_norm/video_student.head": 0.5})
        board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss/loss", "grad_norm/video_student.head"}
    assert {event.step: event.value for event in events.Scalars("loss/loss")} == {1: 1.0, 2: 2.0, 3: 30.0}


def test_tensorboard_shows_pictures_of_which_metrics_jsonl_has_none(tmp_path):
    picture = np.zeros((2, 3, 3), np.uint8)
    for kind in (sinks.TensorBoard, sinks.JsonLines):
        sink = kind(configuration(tmp_path), 0)
        sink.show(4, {"reconstruction": picture})
        sink.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (event,) = events.Images("pictures/reconstruction")
    assert (event.step, event.width, event.height) == (4, 3, 2)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_weights_and_biases_is_not_imported_unasked(tmp_path):
    script = (
        "import sys; from xkd.config import load; from xkd.train.config import PretrainConfig; "
        "from xkd.train.metrics import MetricsWriter; "
        f"config = load('configs/pretrain/demo.yaml', ['run_dir={tmp_path}'], {{'pretrain': PretrainConfig}}); "
        "MetricsWriter(config, total_steps=2, start_step=0, enabled=True).close(); print('wandb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_package_is_told_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    sinks.check(configuration(tmp_path))
    with pytest.raises(ValueError, match=r"log\.wandb: is set, but the package wandb is not installed: `pip install wandb`"):
        sinks.check(configuration(tmp_path, "log.wandb={}"))


def test_locations_with_tokens_are_not_sent_away(tmp_path):
    config = configuration(tmp_path, "data.train='https://host/set?token=secret'", "data.test=shards/test", "data.stage_dir=s")
    sent = sinks._public(config)
    assert "secret" not in json.dumps(sent)
    assert sent["data"]["test"] == "shards/test"
    assert sent["model"] == config.model_dump(mode="json")["model"]


def test_weights_and_biases_offline_holds_the_rows_and_a_resumed_run_has_the_same_name(tmp_path):
    config = configuration(tmp_path, "log.wandb={mode: offline}")
    sinks.check(config)
    for step in (20, 40):
        run = sinks.WeightsAndBiases(config)
        run.write(step, ROW)
        run.show(step, {"reconstruction": np.zeros((2, 3, 3), np.uint8)})
        run.close()
    wandb.teardown()  # waits for its writer
    files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert [file.stem for file in files] == [f"run-{(tmp_path / 'wandb_id').read_text().strip()}"] * 2
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/pictures/reconstruction*.png"))) == 2
    for file in files:
        content = file.read_bytes()  # length-delimited fields, uncompressed
        for name, value in ROW.items():
            assert sinks.tag(name).encode() in content
            assert str(value).encode() in content


def test_a_run_that_cannot_be_opened_is_told_with_the_fix(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "no key at all")
    with pytest.raises(ValueError, match=r"log\.wandb: the run could not be opened: .*wandb login"):
        sinks.WeightsAndBiases(configuration(tmp_path, "log.wandb={}"))
