"""The committed evaluations on AV-Digits: of the demo's net, and of the same net untrained."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "results" / "evaluation"
FILES = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_record_is_whole_and_of_a_known_commit(file):
    found = json.loads(file.read_text())
    assert found["dataset"] == "avdigits"
    assert found["versions"]["commit"].isalnum()  # not "-dirty"
    assert found["data"]["test"]["samples"] == found["folds"][0]["test"]["samples"]
    assert found["folds"][0]["leaks"] == []
    assert all(0 <= measures[found["metric"]]["mean"] <= 1 for measures in found["scores"].values())
    assert "/tmp" not in file.read_text()


@pytest.mark.parametrize("protocol", ["svm", "knn", "retrieval"])
def test_both_nets_were_evaluated_on_the_same_clips(protocol):
    trained, untrained = (json.loads((FOLDER / f"avdigits-{protocol}-{net}.json").read_text()) for net in ("trained", "untrained"))
    for part in ("train", "test"):
        assert trained["data"][part]["identity"] == untrained["data"][part]["identity"]
    assert trained["views"] == untrained["views"]
    assert trained["config"]["protocol"] == untrained["config"]["protocol"]
    assert trained["evaluated"]["encoders_sha256"] != untrained["evaluated"]["encoders_sha256"]
