"""The configurations of the protocols on frozen features: every field is the method's, and each one evaluates."""

import json

import pytest

from tests.replicas import write_replica
from tests.runs import write_run
from xkd.cli import main
from xkd.config import load
from xkd.eval.config import EvalConfig
from xkd.eval.tasks import TASKS
from xkd.pipelines.config import DataConfig
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.views.presets import method_views

WIDE, NARROW = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0), (0.001, 0.01, 0.1, 1.0)
# method.md, section 4: clips of a training sample, clips and crops of a test sample, values of C, scaling.
METHOD = {
    "ucf101": (25, 3, 3, NARROW, "none"),
    "hmdb51": (25, 3, 3, NARROW, "none"),
    "kinetics400": (3, 3, 3, NARROW, "none"),
    "esc50": (100, 3, 1, WIDE, "none"),
    "kinetics_sound": (20, 2, 3, WIDE, "unit"),
}
# Of the replica: number of classes, splits that are converted.
REPLICA = {
    "ucf101": (2, ("all",)),
    "hmdb51": (2, ("all",)),
    "kinetics400": (3, ("train", "val")),
    "esc50": (2, ("all",)),
    "kinetics_sound": (32, ("train", "val")),
}


def read(name, protocol="svm") -> EvalConfig:
    return load(f"eval/{protocol}/{name}.yaml", ["checkpoint=runs/my"], {"eval": EvalConfig})


@pytest.mark.parametrize("name", METHOD)
def test_every_field_is_the_methods(name):
    config = read(name)
    clips, test_clips, crops, c, scaling = METHOD[name]
    data = config.data.over(DataConfig(train="there"))
    assert (data.train_clips, data.eval_clips, data.eval_crops) == (clips, test_clips, crops)
    assert (config.protocol.c, config.protocol.scaling, config.protocol.train_views) == (c, scaling, "svm")
    assert (config.protocol.svm_c, config.backbone, config.dataset.name) == ("cross-validation", "teacher", name)
    method = method_views(DataConfig(train="there"), "svm")
    for modality in config.dataset.modalities:
        assert getattr(data, modality).global_view == getattr(method, modality).global_view
    assert data.view_shapes == method.view_shapes


@pytest.mark.parametrize("protocol", ["svm", "knn", "retrieval"])
def test_av_digits_is_evaluated_in_the_runs_own_views(protocol):
    config = load(f"eval/{protocol}/avdigits.yaml", [], {"eval": EvalConfig})
    assert (config.protocol.name, config.dataset.name, config.checkpoint) == (protocol, "avdigits", "demo/run")
    own = DataConfig(train="there", clip_seconds=2.0)
    assert config.data.over(own) == own


@pytest.mark.long
@pytest.mark.parametrize("name", METHOD)
def test_every_pair_runs_on_a_replica_of_the_data_set(name, pretrain_settings, tmp_path, capsys):
    """From the official layout through shards to results, with an untrained net, which tells colours and pitches apart."""
    classes, splits = REPLICA[name]
    run = write_run(tmp_path / "run", pretrain_settings, seed=7)
    source = write_replica(name, tmp_path / "source")
    folders = dict(zip(("train", "test"), (tmp_path / split for split in splits), strict=False))
    for split in splits:
        write_shards(source, tmp_path / split, dataset=name, split=split, workers=1)
    small = ["clip_seconds=2.0", "train_clips=2", "video.fps=4", "video.global_view.size=32"]
    fields = [f"data.{field}" for field in small] + [f"data.{split}={folder}" for split, folder in folders.items()]
    folds = ["dataset.fold=all"] if splits == ("all",) else []
    given = [f"checkpoint={run}", f"dataset.classes={classes}", "protocol.folds=2", "batch_size=64", *fields, *folds]
    assert main(["eval", f"eval/svm/{name}.yaml", *given]) == 0
    printed = capsys.readouterr().out
    (results,) = (run / "eval").glob(f"svm-{name}*-teacher/results.json")
    found = json.loads(results.read_text())
    assert printed == results.with_name("results.md").read_text()
    assert list(found["scores"]) == [*TASKS[name].streams, *(["both"] if len(TASKS[name].streams) == 2 else [])]
    assert len(found["folds"]) == max(1, TASKS[name].folds)
    assert all(scores["top1"]["mean"] >= 0.9 for scores in found["scores"].values()), printed
