import pytest
import torch
from safetensors.torch import save_file

from tests.runs import write_settings
from xkd.config import load
from xkd.eval.checkpoint import Architecture
from xkd.eval.config import EvalConfig
from xkd.eval.subject import open_subject
from xkd.release.files import save_backbones, save_encoder, save_network
from xkd.train.config import PretrainConfig


def config(checkpoint, **fields) -> EvalConfig:
    return EvalConfig(**{"job": "eval", "checkpoint": str(checkpoint), "backbone": "student", "out": "unused"} | fields)


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def altered(settings, **sections):
    return settings | {name: settings[name] | fields for name, fields in sections.items()}


def test_a_run_gives_the_encoders_and_heads_of_the_backbone_that_is_asked_for(run_dir, architecture):
    (weights,) = (run_dir / "checkpoints").glob("*/weights.safetensors")
    net = architecture.build(seed=7)
    with torch.no_grad():
        net.video_teacher.encoder.norm.bias += 1
        net.video_teacher.head.layers[0].bias += 1
    save_file(net.state_dict(), weights)
    for backbone in ("student", "teacher"):
        subject = open_subject(config(run_dir, backbone=backbone))
        part = getattr(net, f"video_{backbone}")
        assert same(subject.encoders["video"], part.encoder)
        assert same(subject.heads["video"], part.head)
        assert subject.facts["weights"] == str(weights)
    assert subject.data == architecture.data


def test_an_older_checkpoint_of_a_run_can_be_evaluated(run_dir, architecture):
    older = run_dir / "checkpoints" / "step-000002"
    older.mkdir()
    net = architecture.build(seed=8)
    save_file({name: tensor.clone() for name, tensor in net.state_dict().items()}, older / "weights.safetensors")
    asked = config(older, out=None)
    assert same(open_subject(asked).encoders["audio"], net.audio_student.encoder)
    assert asked.out_dir == run_dir / "eval" / "svm-folder-student-step-000002"
    assert asked.features_dir == run_dir / "features"
    (older / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match="step-000002: is no finished checkpoint"):
        open_subject(asked)


def test_only_the_modalities_of_the_data_set_are_taken(run_dir):
    assert list(open_subject(config(run_dir, dataset={"name": "esc50"})).encoders) == ["audio"]
    assert list(open_subject(config(run_dir, dataset={"streams": ["video"]})).encoders) == ["video"]


def test_an_untrained_net_is_that_of_its_seed(pretrain_yaml, architecture):
    subject = open_subject(config("untrained", architecture=pretrain_yaml, seed=3))
    assert same(subject.encoders["audio"], architecture.build(seed=3).audio_student.encoder)
    assert subject.facts["seed"] == 3


def test_an_exported_encoder_has_the_checksum_of_the_one_in_the_run(run_dir, pretrain_yaml, tmp_path):
    of_run = open_subject(config(run_dir, dataset={"streams": ["video"]}))
    for name in ("video.pth.tar", "video.safetensors"):
        save_encoder(of_run.encoders["video"], tmp_path / name)
        subject = open_subject(config(tmp_path / name, architecture=pretrain_yaml, dataset={"streams": ["video"]}))
        assert same(subject.encoders["video"], of_run.encoders["video"])
        assert subject.facts["encoders_sha256"] == of_run.facts["encoders_sha256"]
        assert subject.heads == {}
        assert subject.data == of_run.data


@pytest.mark.parametrize("backbone", ["teacher", "student"])
def test_released_files_are_found_by_the_beginning_of_their_names(architecture, pretrain_yaml, tmp_path, backbone):
    net = architecture.build(seed=1)
    with torch.no_grad():
        net.audio_teacher.encoder.norm.bias += 1
    save_backbones(net, tmp_path / "k400_")
    subject = open_subject(config(tmp_path / "k400_", architecture=pretrain_yaml, backbone=backbone))
    assert same(subject.encoders["audio"], getattr(net, f"audio_{backbone}").encoder)
    assert subject.facts["weights"]["video"].endswith(f"k400_vid_{backbone}.pth.tar")


def test_a_whole_network_gives_the_backbone_that_is_asked_for(architecture, pretrain_yaml, tmp_path):
    net = architecture.build(seed=1)
    with torch.no_grad():
        net.video_teacher.encoder.norm.bias += 1
    save_network(net, tmp_path / "whole.pth.tar")
    subject = open_subject(config(tmp_path / "whole.pth.tar", architecture=pretrain_yaml, backbone="teacher"))
    assert same(subject.encoders["video"], net.video_teacher.encoder)
    assert same(subject.encoders["audio"], net.audio_teacher.encoder)


@pytest.mark.long
def test_the_released_geometry_needs_no_architecture(tmp_path):
    """A file of the released size (a tiny one would be of no named width)."""
    paper = load("pretrain/xkd.yaml", [], {"pretrain": PretrainConfig})
    net = Architecture(job="pretrain", data=paper.data, model=paper.model.model_copy(update={"size": "tiny"})).build(seed=0)
    save_encoder(net.video_teacher.encoder, tmp_path / "k400_vid_teacher.pth.tar")
    subject = open_subject(config(tmp_path / "k400_", backbone="teacher", dataset={"name": "ucf101"}, data={"train": "there"}))
    assert same(subject.encoders["video"], net.video_teacher.encoder)
    assert subject.data.view_shapes == paper.data.view_shapes


def test_a_checkpoint_that_is_nowhere_is_refused_with_all_that_could_be_given(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist: give the folder that `xkd train` wrote, .*or untrained"):
        open_subject(config(tmp_path / "nowhere"))


def test_an_encoder_of_the_other_modality_is_refused(architecture, pretrain_yaml, tmp_path):
    save_encoder(architecture.build(seed=0).video_student.encoder, tmp_path / "video.pth.tar")
    with pytest.raises(ValueError, match="holds no audio encoder, which esc50 is evaluated by"):
        open_subject(config(tmp_path / "video.pth.tar", architecture=pretrain_yaml, dataset={"name": "esc50"}))


def test_an_untrained_net_asks_for_an_architecture_and_a_folder():
    with pytest.raises(ValueError, match="untrained has no run directory of its own: set architecture and out as well"):
        EvalConfig(job="eval", checkpoint="untrained")


OTHERS = {
    "model.encoder.dim": {"model": {"encoder": {"dim": 32, "depth": 1, "heads": 2}}},
    "model.encoder.depth": {"model": {"encoder": {"dim": 24, "depth": 2, "heads": 2}}},
    "model.cls_token": {"model": {"cls_token": False}},
    "model.video.tubelet": {"model": {"video": {"tubelet": [2, 8, 8]}}},
    "data": {"data": {"clip_seconds": 1.0, "audio": {"hop": 500, "num_mels": 16, "local_view": {"count": 0}}}},
}


@pytest.mark.parametrize("field", OTHERS)
def test_another_architecture_is_refused_with_the_field_that_differs(run_dir, pretrain_settings, tmp_path, field):
    other = write_settings(tmp_path / "other.yaml", altered(pretrain_settings, **OTHERS[field]))
    with pytest.raises(ValueError, match=rf"architecture: .*{field}.* is .* in .*run and .* in .*other\.yaml"):
        open_subject(config(run_dir, architecture=other))
    video = open_subject(config(run_dir, dataset={"streams": ["video"]})).encoders["video"]
    save_encoder(video, tmp_path / "video.pth.tar")
    with pytest.raises(ValueError, match=rf"architecture: .*{field}.* is .* in .*video\.pth\.tar and .* in .*other\.yaml"):
        open_subject(config(tmp_path / "video.pth.tar", architecture=other, dataset={"streams": ["video"]}))


def test_what_makes_no_other_net_may_differ(run_dir, pretrain_settings, tmp_path):
    other = altered(pretrain_settings, data={"train": "elsewhere", "num_threads": 3}, model={"activation_checkpointing": True})
    assert open_subject(config(run_dir, architecture=write_settings(tmp_path / "other.yaml", other))).encoders


def test_a_run_of_a_damaged_checkpoint_is_refused(run_dir):
    (weights,) = (run_dir / "checkpoints").glob("*/weights.safetensors")
    weights.unlink()
    with pytest.raises(ValueError, match=r"is missing, though .*latest names it"):
        open_subject(config(run_dir))
