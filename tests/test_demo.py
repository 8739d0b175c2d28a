"""The main job, small: every command of `xkd demo` on real media."""

import json
import os
import socket
import subprocess
import sys

import pytest

from xkd import demo

SMALL = ("--train", "120", "--test", "40", "train.epochs=4", "train.log_every=2")


def run_demo(out, *arguments):
    command = (sys.executable, "-m", "xkd", "demo", "--out", str(out), *SMALL, *arguments)
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_a_run_that_did_not_end_well_fails_the_demo_even_where_the_launcher_returned_0(tmp_path, capsys):
    (tmp_path / "state.json").write_text('{"status": "failed", "reason": "step 3: the loss is nan"}')
    assert not demo._finished(tmp_path)
    assert "step 3: the loss is nan" in capsys.readouterr().err
    (tmp_path / "state.json").write_text('{"status": "done", "step": 6}')
    assert demo._finished(tmp_path)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_demo_goes_from_nothing_to_a_report(tmp_path):
    result = run_demo(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = tmp_path / "report"
    facts = json.loads((report / "report.json").read_text())
    assert set(facts["accuracy"]) == {"chance", "raw features, SVM", "untrained net, SVM", "trained net, SVM", "supervised net"}
    assert all(set(cells) == {"video", "audio", "both"} for cells in facts["accuracy"].values())
    text = (report / "report.md").read_text()
    for picture in ("contact-sheet.png", "loss-curves.png", "reconstructions.png", "accuracy.png"):
        assert (report / picture).stat().st_size > 10_000
        assert f"({picture})" in text
    assert text.partition("\n## ")[0] in result.stdout
    for command in demo.commands(tmp_path, 120, 40, []):
        assert " ".join(command[:2]) in result.stdout


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_demo_whose_net_learns_nothing_fails_with_the_reason(tmp_path):
    result = run_demo(tmp_path, "optim.lr=1e-12", "ema.video=1", "ema.audio=1")
    assert result.returncode == 1
    assert "\n- NO: video: error of masked patches" in result.stdout


def test_a_port_that_another_run_has_taken_is_left_to_it(tmp_path, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        monkeypatch.setattr(demo, "LAUNCHER_PORT", other.getsockname()[1])
        assert not any("--master_port" in command for command in demo.commands(tmp_path, 1, 1, []))
        other.listen()
        (launch,) = [command for command in demo.commands(tmp_path, 1, 1, []) if command[0] == "deepspeed"]
    assert int(launch[launch.index("--master_port") + 1]) != demo.LAUNCHER_PORT
