import json

import numpy as np
import pytest

from xkd.eval.config import EvalConfig
from xkd.eval.results import judge, of_fold, over_folds, report, results, write
from xkd.eval.splits import Fold, Part
from xkd.eval.tasks import TASKS
from xkd.pipelines.config import DataConfig
from xkd.pipelines.shards.index import ShardSet


def judged(seed=0, task="avdigits", classes=8):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=100)
    scores = rng.normal(size=(100, classes)) + 2 * np.eye(classes)[labels]
    return judge(scores, np.eye(classes, dtype=np.uint8)[labels], TASKS[task])


@pytest.fixture
def found(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    train, test = Part(shards, np.arange(8)), Part(shards, np.arange(8, 12))
    train, test = Part(shards, np.arange(8)), Part(shards, np.arange(8, 12))
    folds = [Fold(1, train, test), Fold(2, train, test, [("a", "b")])]
    records = [
        of_fold(fold, {"video": judged(fold.number) | {"note": "C = 1"}}, {"test": {"clip-9": "is damaged"}}) for fold in folds
    ]
    config = EvalConfig(job="eval", checkpoint="runs/my")
    facts = {"checkpoint": "runs/my", "backbone": "teacher"}
    data = DataConfig(train="there")
    return results(config, protocol="svm", evaluated=facts, data=data, folds=folds, records=records, seconds=1.23)


def test_one_label_is_judged_by_top_1_and_top_5_with_their_intervals():
    one = judged()
    assert one["top1"]["low"] < one["top1"]["mean"] < one["top1"]["high"]
    assert one["top1"]["mean"] < one["top5"]["mean"]
    assert np.mean([value * sum(row) for value, row in zip(one["per_class"], one["confusion"], strict=True)]) * 8 == pytest.approx(
        100 * one["top1"]["mean"]
    )


def test_several_labels_are_judged_by_the_mean_average_precision():
    many = judged(task="fsd50k")
    assert many["map"]["mean"] == pytest.approx(np.mean(many["per_class"]))
    assert "top1" not in many


def test_a_class_without_samples_has_none():
    scores, targets = np.eye(3)[[0, 1]], np.eye(3, dtype=np.uint8)[[0, 1]]
    assert judge(scores, targets, TASKS["avdigits"])["per_class"] == [1, 1, None]


def test_folds_are_averaged_and_their_deviation_is_told():
    folds = [{"audio": {"top1": {"mean": value, "low": 0, "high": 1}, "c": 3.0}} for value in (0.5, 0.6, 0.7)]
    assert over_folds(folds) == {
        "audio": {"top1": {"mean": pytest.approx(0.6), "std": pytest.approx(0.1), "folds": [0.5, 0.6, 0.7]}}
    }
    assert over_folds(folds[:1]) == {"audio": {"top1": {"mean": 0.5, "low": 0, "high": 1}}}


def test_the_record_is_json_and_says_what_the_scores_rest_on(found, tmp_path, tiny_shards):
    write(found, tmp_path / "out")
    read = json.loads((tmp_path / "out" / "results.json").read_text())
    assert read == json.loads(json.dumps(found))
    assert read["scores"]["video"]["top1"]["folds"] == [fold["modalities"]["video"]["top1"]["mean"] for fold in read["folds"]]
    assert (read["metric"], read["classes"], read["seconds"]) == ("top1", ["high", "low"], 1.2)
    assert read["data"]["test"]["identity"] == ShardSet.open(tiny_shards).manifest.identity
    assert read["data"]["test"]["completeness"]["present"] == 12
    assert read["views"]["train"] == "there"
    assert read["versions"]["scikit-learn"]
    assert read["folds"][0]["test"] == {"samples": 3, "dropped": {"clip-9": "is damaged"}}


def test_the_report_says_what_was_evaluated_on_what_and_what_is_amiss(found):
    text = report(found)
    mean, std = (100 * found["scores"]["video"]["top1"][name] for name in ("mean", "std"))
    assert f"| video | {mean:.1f} +- {std:.1f} |" in text
    for fact in (
        "(mean of 2 folds +- their standard deviation)",
        "- checkpoint: runs/my\n- backbone: teacher\n",
        "- fold 1, video: C = 1\n",
        "- fold 1, 8 training and 3 test samples\n",
        "left out of test, for they are damaged or lack a stream: clip-9",
        "- fold 2, 1 TEST SAMPLES ARE IN THE TRAINING SPLIT: b (a)\n",
        "- test: 12 clips of ",
    ):
        assert fact in text, text
