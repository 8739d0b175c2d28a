"""`xkd visualize`: what a checkpoint has the parts for is drawn, and of the rest it is said why not."""

import json

import pytest
from matplotlib.image import imread

from tests.runs import write_run
from xkd.cli import main
from xkd.release.files import save_encoder

PICTURES = ["reconstructions.png", "attention.png", "embedding.png", "curves.png"]


@pytest.fixture
def run(pretrain_settings, tmp_path):
    folder = write_run(tmp_path / "run", pretrain_settings, seed=1)
    rows = [{"step": step, "loss": 1 / step, "recon_video": 1 / step} for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def test_a_run_has_all_pictures(run, capsys):
    assert main(["visualize", str(run), "--samples", "2", "projection=pca"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(run / "pictures" / name) for name in PICTURES]
    assert all(imread(run / "pictures" / name).std() > 0.05 for name in PICTURES)


def test_an_older_checkpoint_without_metrics_has_all_but_the_curves(run, capsys, tmp_path):
    (run / "metrics.jsonl").unlink()
    out = tmp_path / "out"
    checkpoint = run / "checkpoints" / "step-000003"
    assert main(["visualize", str(checkpoint), "--out", str(out), "clips=9", "dataset.streams=[audio]"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [str(out / name) for name in PICTURES[:2]]
    assert told[2].startswith("embedding.png is not drawn: clips: 9 make no map")
    assert told[3].startswith(f"curves.png is not drawn: {run / 'metrics.jsonl'}: holds no training metrics")
    assert sorted(path.name for path in out.iterdir()) == sorted(PICTURES[:2])


def test_an_encoders_file_has_what_needs_no_decoder(architecture, pretrain_yaml, tiny_shards, tmp_path, capsys):
    save_encoder(architecture.build(seed=0).audio_teacher.encoder, tmp_path / "audio.safetensors")
    arguments = ["visualize", str(tmp_path / "audio.safetensors"), f"architecture={pretrain_yaml}", f"data.test={tiny_shards}"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "projection=pca"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == (
        f"reconstructions.png is not drawn: {tmp_path / 'audio.safetensors'} holds encoders only, no decoder: give a run directory"
    )
    assert told[1:3] == [str(tmp_path / "out" / name) for name in PICTURES[1:3]]
    assert told[3] == f"curves.png is not drawn: {tmp_path / 'audio.safetensors'} is no run directory, which has metrics"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "out: is missing, and nowhere is no run directory, which would hold the pictures: set it"),
        (("nowhere", "--out", "out"), "checkpoint: nowhere does not exist: give the folder that `xkd train` wrote"),
        (("RUN", "data.test=lost"), "data.test: lost"),
        (("RUN", "samples=0"), "command line: samples: "),
        (("RUN", "sample=2"), "command line: sample: "),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_fix(arguments, message, run, capsys):
    assert main(["visualize", *(str(run) if word == "RUN" else word for word in arguments)]) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not (run / "pictures").exists()
