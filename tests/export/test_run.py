import re

import pytest
import torch
from safetensors.torch import load_file, save_file

import xkd
from tests.exports import write_export
from tests.runs import write_run
from xkd.cli import main
from xkd.eval.config import EvalConfig
from xkd.eval.subject import open_subject
from xkd.release.files import save_backbones, save_encoder


def subject(checkpoint, **fields):
    return open_subject(
        EvalConfig(**{"job": "eval", "checkpoint": str(checkpoint), "backbone": "student", "out": "unused"} | fields)
    )


def test_an_exported_folder_is_evaluated_as_the_run_it_is_of(run, tmp_path):
    of_run = subject(run, data={"train": "shards"})
    for layout in ("safetensors", "release"):
        folder = write_export(run, tmp_path / layout, layout, backbone="student")
        exported = subject(folder, data={"train": "shards", "test": of_run.data.test})
        assert exported.facts["encoders_sha256"] == of_run.facts["encoders_sha256"]
        assert exported.data.model_copy(update={"train": of_run.data.train}) == of_run.data


def test_the_command_line_exports_and_evaluates(run, tiny_shards, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "--out", "out", "modality=audio"]) == 0
    assert capsys.readouterr().out == "out: audio.safetensors, config.json, README.md\n"
    given = ["dataset.name=folder", f"data.train={tiny_shards}", f"data.test={tiny_shards}", "dataset.leaks=report"]
    evaluate = ["eval", "eval/knn/avdigits.yaml", "checkpoint=out", "out=results", "backbone=teacher", "dataset.streams=[audio]"]
    assert main([*evaluate, *given]) == 0
    assert "12 training and 12 test samples" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "audio.safetensors", "config.json"]


def test_the_backbone_and_the_modality_that_are_asked_for_are_exported(run, tmp_path):
    (weights,) = (run / "checkpoints").glob("*/weights.safetensors")
    copy = tmp_path / "run" / "checkpoints" / "step-000003"
    copy.mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text((run / "config.yaml").read_text())
    (copy.parent / "latest").write_text("step-000003\n")
    state = load_file(weights)
    state["audio_teacher.encoder.norm.bias"] += 1
    save_file(state, copy / "weights.safetensors")
    teacher = xkd.load_encoder(write_export(tmp_path / "run", tmp_path / "teacher", modality="audio"))
    student = xkd.load_encoder(write_export(tmp_path / "run", tmp_path / "student", modality="audio", backbone="student"))
    assert teacher.modalities == student.modalities == ("audio",)
    for backbone, encoder in (("teacher", teacher), ("student", student)):
        assert torch.equal(encoder.encoders["audio"].norm.bias, state[f"audio_{backbone}.encoder.norm.bias"])


def test_an_older_checkpoint_is_exported(run, pretrain_settings, tmp_path):
    folder = write_run(tmp_path / "run", pretrain_settings, seed=7)
    older = folder / "checkpoints" / "step-000001"
    older.mkdir()
    other = write_run(tmp_path / "other", pretrain_settings, seed=8) / "checkpoints" / "step-000003" / "weights.safetensors"
    (older / "weights.safetensors").write_bytes(other.read_bytes())
    old = xkd.load_encoder(write_export(older, tmp_path / "out"))
    assert torch.equal(old.encoders["audio"].tokenizer.positions, load_file(other)["audio_teacher.encoder.tokenizer.positions"])


def test_files_of_weights_are_exported_with_what_describes_them(architecture, pretrain_yaml, tmp_path):
    net = architecture.build(seed=1)
    save_backbones(net, tmp_path / "k400_")
    out = write_export(tmp_path / "k400_", tmp_path / "out", architecture=pretrain_yaml)
    view = torch.randn(1, *architecture.data.audio_shape)
    assert torch.equal(xkd.load_encoder(out)({"audio": view})["audio"], net.audio_teacher.encoder.features(view))
    assert "CC BY-NC 4.0" in (out / "README.md").read_text()


def test_files_can_be_read_by_whoever_may_read_the_folder(run, tmp_path):
    for layout in ("safetensors", "release", "timm"):
        folder = write_export(run, tmp_path / layout, layout)
        assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_an_unknown_run_and_wrong_choices_are_refused_in_a_sentence(run, tmp_path, capsys):
    for arguments, says in (
        (["nowhere"], "checkpoint: nowhere does not exist: give the folder that `xkd train` wrote"),
        (["untrained"], "checkpoint: untrained is no net that others could use"),
        ([str(run), "modality=sound"], "command line: modality: 'sound' is not one of video, audio, both"),
        ([str(run), "backbones=teacher"], "backbones"),
    ):
        assert main(["export", *arguments[:1], "--out", str(tmp_path / "out"), *arguments[1:]]) == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_the_modality_is_refused(architecture, pretrain_yaml, tmp_path):
    save_encoder(architecture.build(seed=0).video_student.encoder, tmp_path / "video.pth.tar")
    with pytest.raises(ValueError, match=r"holds no audio encoder: set modality=video, or give another checkpoint"):
        write_export(tmp_path / "video.pth.tar", tmp_path / "out", architecture=pretrain_yaml)
    out = write_export(tmp_path / "video.pth.tar", tmp_path / "out", architecture=pretrain_yaml, modality="video")
    with pytest.raises(ValueError, match=r"out: holds no audio encoder: set modality=video"):
        write_export(out, tmp_path / "again")


def test_a_folder_in_use_is_not_written_to(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        write_export(run, tmp_path / "out")


def test_what_contradicts_an_exported_folder_is_refused(run, tmp_path):
    folder = write_export(run, tmp_path / "out", backbone="student", modality="video")
    for fields, says in (
        ({"backbone": "teacher", "dataset": {"streams": ["video"]}}, "holds the student's encoders, not the teacher's"),
        ({"architecture": run, "dataset": {"streams": ["video"]}}, "architecture: .* describes its encoders itself"),
        ({"dataset": {"name": "esc50"}}, "holds no audio encoder, which esc50 is evaluated by"),
    ):
        with pytest.raises(ValueError, match=says):
            subject(folder, **fields)
    with pytest.raises(ValueError, match=re.escape("out: is missing, and")):
        EvalConfig(job="eval", checkpoint=str(folder)).out_dir  # noqa: B018
