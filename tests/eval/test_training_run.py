"""Linear evaluation and fine-tuning as users start them: on replicas of data sets, by folds, on ranks, interrupted."""

import json
from functools import cache

import pytest
import torch
import yaml
from sklearn.metrics import average_precision_score

from tests import runs
from tests.launcher import launch
from tests.replicas import write_replica
from tests.train.ranks import on_ranks
from xkd.config import load
from xkd.eval import training_run
from xkd.eval.scoring import FILE, read_scores
from xkd.eval.tasks import TASKS
from xkd.eval.training_config import TrainingEvalConfig
from xkd.pipelines.convert.write import write_shards

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
SCHEMAS = dict.fromkeys(("linear", "finetune"), TrainingEvalConfig)
# Over the method's files, for a net and replicas that are small.
SMALL = (
    "data.clip_seconds=2.0",
    "train.global_batch=4",
    "train.epochs=1",
    "optim.warmup_epochs=0",
    "classifier.test_every_epochs=1",
)
VIDEO = ("data.video.fps=4", "data.video.global_view.size=32")
AUDIO = tuple(f"data.audio.global_view.{name}" for name in ("time_warp=5", "time_mask_width=5", "freq_mask_width=2"))
# Protocol: what is small of it, its classes, and its test samples of the fold.
PAIRS = {
    "finetune/ucf101": (VIDEO, 2, 4),
    "finetune/hmdb51": (VIDEO, 2, 4),
    "finetune/kinetics400": (VIDEO, 3, 6),
    "finetune/esc50": (AUDIO, 2, 4),
    "finetune/fsd50k": (AUDIO, 3, 6),
    "linear/kinetics400": (VIDEO, 3, 6),
    "linear/fsd50k": ((), 3, 6),
}


@pytest.fixture(scope="module")
def run_dir(pretrain_settings, tmp_path_factory):
    return runs.write_run(tmp_path_factory.mktemp("evaluated") / "run", pretrain_settings, seed=7)


@pytest.fixture(scope="module")
def shards_of(tmp_path_factory):
    """Fields that name the shards of a data set's replica, converted once."""

    @cache
    def convert(dataset):
        folder, task = tmp_path_factory.mktemp(dataset), TASKS[dataset]
        source = write_replica(dataset, folder / "source")
        parts = {"train": "all"} if task.folds else dict(zip(("train", "test"), task.splits, strict=True))
        for part, split in parts.items():
            write_shards(source, folder / part, dataset=dataset, split=split, workers=1)
        return tuple(f"data.{part}={folder / part}" for part in parts)

    return convert


@pytest.fixture
def fields_of(run_dir, shards_of, tmp_path):
    """The command line of a protocol on its replica, which takes seconds."""

    def fields(protocol, *more):
        own, classes, _ = PAIRS[protocol]
        here = (f"checkpoint={run_dir}", f"out={tmp_path}", f"dataset.classes={classes}")
        return *here, *shards_of(protocol.split("/")[1]), *SMALL, *own, *more

    return fields


def evaluated(path, overrides, ranks):
    """What each rank of `xkd eval PATH OVERRIDES` returns."""
    return on_ranks(_evaluate, path, overrides, ranks=ranks)


def _evaluate(place, path, overrides):
    return training_run.run(load(path, overrides, SCHEMAS))


@pytest.mark.parametrize("protocol", PAIRS)
def test_a_protocol_runs_on_a_replica_of_its_data_set(fields_of, tmp_path, protocol):
    ((code, found),) = evaluated(f"eval/{protocol}.yaml", fields_of(protocol), ranks=1)
    job, dataset = protocol.split("/")
    assert code == 0
    assert (found["protocol"], found["dataset"]) == (job, dataset)
    (modality,) = TASKS[dataset].streams
    (record,) = found["folds"]
    measure = record["modalities"][modality]
    scored = read_scores(next(tmp_path.rglob(FILE)))
    assert scored.scores[modality].shape == (PAIRS[protocol][2], PAIRS[protocol][1])
    assert measure[found["metric"]]["mean"] == measure["best"]["value"]  # of one test
    assert len(measure["per_class"]) == PAIRS[protocol][1]
    if found["metric"] == "map":
        expected = average_precision_score(scored.targets.numpy(), scored.scores[modality].numpy(), average="macro")
    else:
        expected = (scored.scores[modality].argmax(1) == scored.targets.argmax(1)).float().mean().item()
    assert measure[found["metric"]]["mean"] == pytest.approx(expected)


LEARNS = ("train.global_batch=8", "train.epochs=4", "optim.lr=0.05", "classifier.test_every_epochs=2")


def test_every_fold_is_trained_and_tested_and_their_mean_recorded(fields_of, tmp_path):
    fields = fields_of("finetune/esc50", *LEARNS, "dataset.fold=all")
    (code, found), (other_code, nothing) = evaluated("eval/finetune/esc50.yaml", fields, ranks=2)
    assert (code, other_code, nothing) == (0, 0, None)
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(found))
    assert [record["fold"] for record in found["folds"]] == [1, 2, 3, 4, 5]
    assert {(record["train"]["samples"], record["test"]["samples"]) for record in found["folds"]} == {(16, 4)}
    score = found["scores"]["audio"]["top1"]
    assert score["mean"] == pytest.approx(sum(score["folds"]) / 5)
    assert score["mean"] > 0.8  # a low tone and a high one
    for record in found["folds"]:
        best = record["modalities"]["audio"]["best"]
        assert best["value"] >= record["modalities"]["audio"]["top1"]["mean"]
        assert best["epoch"] in (2, 4)
    assert yaml.safe_load((tmp_path / "fold-3" / "config.yaml").read_text())["dataset"]["fold"] == 3


def test_a_fold_that_was_trained_before_is_gone_on_with_and_ends_as_if_it_had_not_stopped(fields_of, tmp_path):
    path, fields = "eval/finetune/esc50.yaml", fields_of("finetune/esc50", *LEARNS, "dataset.fold=2")
    scores = {}
    for name, stops in (("once", ()), ("twice", ("train.max_steps=3",))):
        own = (*fields, f"out={tmp_path / name}")
        if stops:
            evaluated(path, (*own, *stops), ranks=2)
        ((code, _), _) = evaluated(path, own, ranks=2)
        assert code == 0
        scores[name] = read_scores(tmp_path / name / "fold-2" / FILE).scores["audio"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "twice" / "fold-2" / "metrics.jsonl").read_text().splitlines()]
    assert (3 in steps, steps[-1]) == (True, 8)
    assert torch.equal(scores["once"], scores["twice"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (("dataset.classes=50",), r"has 2 classes, .* 50|has 2 classes, esc50 has 50"),
        (("data.train=nowhere",), "nowhere: no such shard folder"),
        (("train.global_batch=3",), "3 clips cannot be cut into 2 equal parts"),
        (("train.global_batch=6", "classifier.mixing.mixup=1"), r"classifier\.mixing: mixes clips in pairs, and a rank has 3"),
    ],
)
def test_what_cannot_be_trained_is_refused_on_every_rank(fields_of, fields, says):
    with pytest.raises(ValueError, match=says):
        evaluated("eval/finetune/esc50.yaml", fields_of("finetune/esc50", *fields), ranks=2)


def test_it_runs_under_the_launcher_and_by_itself_goes_on_with_what_that_has_done(fields_of, tmp_path):
    fields = fields_of("finetune/esc50", *LEARNS)
    launched = launch("eval/finetune/esc50.yaml", *fields, "dataset.fold=5", module="xkd.eval")
    assert launched.returncode == 0, launched.stderr
    assert "esc50, finetune: per cent of fold 5" in launched.stdout
    state = tmp_path / "fold-5" / "state.json"
    assert json.loads(state.read_text())["status"] == "done"
    ended = (tmp_path / "fold-5" / FILE).stat().st_mtime_ns
    ((code, found),) = evaluated("eval/finetune/esc50.yaml", (*fields, "dataset.fold=5"), ranks=1)
    assert code == 0
    assert found["folds"][0]["test"]["samples"] == 4
    assert (tmp_path / "fold-5" / FILE).stat().st_mtime_ns == ended
