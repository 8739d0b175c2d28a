from pathlib import Path

import pytest

from xkd.cli import main
from xkd.config import dump, load
from xkd.eval.training_config import FoldConfig, TrainingEvalConfig
from xkd.release.files import save_encoder

SCHEMAS = dict.fromkeys(("linear", "finetune"), TrainingEvalConfig)
UCF101 = "eval/finetune/ucf101.yaml"


def loaded(path=UCF101, *overrides):
    return load(path, ["checkpoint=somewhere", "out=there", *overrides], SCHEMAS)


def data_of(config, architecture):
    return config.data.over(architecture.data)


@pytest.mark.parametrize(
    ("path", "override", "says"),
    [
        (UCF101, "optim.warmup_epochs=101", r"optim\.warmup_epochs: 101 is more than train\.epochs \(100\): lower"),
        (UCF101, "dataset.fold=4", r"dataset\.fold: 4 is not one of 1, 2, 3, all"),
        (UCF101, "classifier.averaging=softmix", "classifier.averaging: 'softmix' is not one of softmax, logits, sigmoid"),
        (UCF101, "job=linear", r"optim\.layer_decay: 0\.45 has no effect in a linear evaluation"),
        ("eval/finetune/fsd50k.yaml", "classifier.smoothing=0.1", r"classifier\.smoothing: is for one label a sample"),
        ("eval/finetune/fsd50k.yaml", "classifier.mixing.mixup=1", r"classifier\.mixing: is for one label a sample"),
    ],
)
def test_what_cannot_be_is_refused_with_the_fix(path, override, says):
    with pytest.raises(ValueError, match=says):
        loaded(path, override)


def test_each_fold_is_a_run_of_its_own_that_an_evaluation_of_all_goes_on_with(architecture):
    config, second = loaded(UCF101, "dataset.fold=all"), loaded(UCF101, "dataset.fold=2")
    runs = [config.of_fold(fold, data_of(config, architecture), {"weights_sha256": "0"}) for fold in config.dataset.folds]
    assert [str(run.run_dir) for run in runs] == ["there/fold-1", "there/fold-2", "there/fold-3"]
    assert [run.dataset.folds for run in runs] == [(1,), (2,), (3,)]
    assert runs[1] == second.of_fold(2, data_of(second, architecture), {"weights_sha256": "0"})
    assert [str(one.out_dir) for one in (config, second)] == ["there", "there/fold-2"]


def test_results_lie_in_the_evaluated_run_unless_a_folder_is_given(architecture, tmp_path):
    evaluation = load("eval/linear/fsd50k.yaml", [f"checkpoint={tmp_path}"], SCHEMAS)
    assert evaluation.out_dir == tmp_path / "eval" / "linear-fsd50k-teacher"
    assert evaluation.of_fold(None, data_of(evaluation, architecture), {}).run_dir == evaluation.out_dir / "run"
    with pytest.raises(ValueError, match="out: is missing, and somewhere is no run directory"):
        _ = load("eval/linear/fsd50k.yaml", ["checkpoint=somewhere"], SCHEMAS).out_dir


def test_the_views_are_those_of_the_net_but_for_what_the_protocol_says(architecture):
    config = loaded()
    run = config.of_fold(1, data_of(config, architecture), {})
    assert run.data.video.global_view.size == 224
    assert run.data.audio == architecture.data.audio
    assert run.data.video.mean == architecture.data.video.mean


def test_a_test_set_of_the_nets_own_training_is_no_part_of_a_run_with_folds(architecture):
    assert architecture.data.test
    config = loaded()
    assert config.of_fold(1, data_of(config, architecture), {}).data.test is None


def test_a_run_records_all_that_it_is_told(architecture, tmp_path):
    config = loaded()
    run = config.of_fold(2, data_of(config, architecture), {"weights_sha256": {"video": "12"}})
    (tmp_path / "config.yaml").write_text(dump(run))
    assert load(tmp_path / "config.yaml", [], {"finetune": FoldConfig}) == run


def test_clips_of_one_sample_are_not_mixed_with_each_other(architecture):
    config = loaded(UCF101, "data.train_clips=2")
    with pytest.raises(ValueError, match=r"data\.train_clips: 2 clips of a sample would be mixed with each other: set it to 1"):
        config.of_fold(1, data_of(config, architecture), {})


def test_a_precision_that_a_stage_cannot_have_is_refused_before_anything_is_run(architecture):
    config = loaded(UCF101, "train.precision=bf16", "deepspeed.zero_stage=0")
    with pytest.raises(ValueError, match=r"train\.precision: 'bf16' has no fp32 masters"):
        config.of_fold(1, data_of(config, architecture), {})


def test_a_launch_is_of_one_fold():
    assert str(loaded(UCF101, "dataset.fold=2").run_dir) == str(Path("there/fold-2"))
    with pytest.raises(ValueError, match=r"dataset\.fold: all is 3 runs, and `xkd launch` starts one: launch dataset\.fold=1, 2"):
        _ = loaded(UCF101, "dataset.fold=all").run_dir


def test_a_wrong_fold_exits_with_2_and_says_which_there_are(capsys):
    assert main(["eval", UCF101, "checkpoint=runs/xkd", "dataset.fold=9"]) == 2
    assert "dataset.fold: 9 is not one of 1, 2, 3, all (ucf101)" in capsys.readouterr().err


def test_a_net_that_is_not_there_exits_with_2_before_anything_is_trained(capsys, tmp_path):
    assert main(["eval", UCF101, f"checkpoint={tmp_path / 'nowhere'}", f"out={tmp_path / 'out'}"]) == 2
    assert "nowhere does not exist: give the folder that `xkd train` wrote" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_net_without_the_data_sets_stream_exits_with_2(capsys, architecture, tmp_path):
    save_encoder(architecture.build(seed=0).audio_teacher.encoder, tmp_path / "audio.safetensors")
    assert main(["eval", UCF101, f"checkpoint={tmp_path / 'audio.safetensors'}", f"out={tmp_path / 'out'}"]) == 2
    assert "holds no video encoder, which ucf101 is evaluated by" in capsys.readouterr().err
