import re

import pytest
import torch
import yaml

from xkd.eval.checkpoint import encoders, find_weights, load_trained, read_architecture


def test_a_run_loads_every_weight_that_it_saved(run_dir, architecture):
    saved, loaded = architecture.build(seed=7).state_dict(), load_trained(run_dir).state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)


def test_the_untrained_net_depends_on_its_seed_alone(architecture):
    one, same, other = (architecture.build(seed).video_student.encoder.tokenizer.projection.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_backbone_names_the_encoders(run_dir, architecture):
    net = load_trained(run_dir)
    with torch.no_grad():
        net.audio_teacher.encoder.norm.bias.add_(1.0)
    clip = torch.randn(2, *architecture.data.audio_shape)
    teacher, student = (encoders(net, backbone)["audio"](clip) for backbone in ("teacher", "student"))
    torch.testing.assert_close(teacher, student + 1.0)


def test_other_settings_of_a_run_do_not_matter(pretrain_settings, architecture, tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(pretrain_settings | {"optim": {"lr": 1.0}, "ema": {"momentum_of_the_future": 1}}))
    assert read_architecture(path) == architecture


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.yaml").unlink(), "is no run directory"),
        (lambda run: (run / "checkpoints/latest").unlink(), "has no finished checkpoint"),
        (lambda run: (run / "checkpoints/step-000003/weights.safetensors").unlink(), "is missing, though"),
    ],
)
def test_an_incomplete_run_is_refused_by_name(run_dir, damage, message):
    damage(run_dir)
    with pytest.raises(ValueError, match=f"^{re.escape(str(run_dir))}.*{message}"):
        load_trained(run_dir)


def test_a_run_that_does_not_exist_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such run directory"):
        read_architecture(tmp_path / "nowhere")


def test_weights_of_another_net_are_refused_with_what_differs(run_dir, pretrain_settings):
    model = {**pretrain_settings["model"], "encoder": {"dim": 24, "depth": 2, "heads": 2}}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(pretrain_settings | {"model": model}))
    with pytest.raises(ValueError, match=r"video_student\.encoder\.blocks\.1\.norm1\.weight is missing.* and \d+ more"):
        load_trained(run_dir)


def test_weights_of_another_view_are_refused_with_both_shapes(run_dir, pretrain_settings):
    data = {**pretrain_settings["data"], "clip_seconds": 1.0}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(pretrain_settings | {"data": data}))
    with pytest.raises(ValueError, match=r"positions is \[1, 33, 24\] instead of \[1, 17, 24\]"):
        load_trained(run_dir)


def test_a_wrong_field_of_a_run_is_named(run_dir, pretrain_settings):
    (run_dir / "config.yaml").write_text(yaml.safe_dump(pretrain_settings | {"model": {"sharing": "students"}}))
    with pytest.raises(ValueError, match=r"config\.yaml: model\.sharing: 'students' is not one of none, student, both"):
        load_trained(run_dir)


def test_the_newest_checkpoint_is_the_one_that_latest_names(run_dir):
    assert find_weights(run_dir) == run_dir / "checkpoints" / "step-000003" / "weights.safetensors"
