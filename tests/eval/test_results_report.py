import json

import pytest

from tests.eval.found import found, leave
from xkd.cli import main
from xkd.eval.results_report import write_results_report


def test_a_report_has_the_tables_the_records_and_the_pictures(tmp_path):
    fsd = found("fsd50k", "linear", modalities=("audio",), metric="map", folds=(None,), value=0.4, counts=(40966, 40))
    files = leave(tmp_path / "eval", found(folds=(1, 2, 3), value=0.8), fsd)
    summary = write_results_report([tmp_path / "eval"], tmp_path / "out")
    assert "| runs/xkd (teacher) | 40.0\\* | 80.0 +- 2.0 |" in summary
    assert "| paper: XKD, AudioSet | 51.5 | 88.4 |" in summary
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith(summary)
    for file in files:
        assert str(file) in text
    pictures = {file.name for file in (tmp_path / "out").glob("*.png")}
    assert pictures == {
        "01-svm-ucf101-video-confusion.png",
        "01-svm-ucf101-video-per-class.png",
        "02-linear-fsd50k-audio-per-class.png",
    }
    assert all(f"({name})" in text for name in pictures)
    rows = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(row["dataset"], row["metric"], row["mean"], row["of_folds"]) for row in rows] == [
        ("ucf101", "top1", 0.8, [1, 2, 3]),
        ("fsd50k", "map", 0.4, [None]),
    ]


def test_results_that_rest_on_different_data_are_told_at_the_top(tmp_path):
    leave(tmp_path / "eval", found(), found(net="runs/another", identities=("c" * 32, "a" * 32)))
    summary = write_results_report([tmp_path / "eval"], tmp_path / "out")
    assert "ucf101 svm: these results rest on 2 different sets of samples or folds, each in a column of its own" in summary


def test_the_command_prints_the_tables(tmp_path, capsys):
    files = leave(tmp_path, found(), found("hmdb51"))
    assert main(["report", *map(str, files), "--out", str(tmp_path / "out")]) == 0
    assert "| runs/xkd (teacher) | 50.0 | 50.0 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["eval", "--seed", "1"], "--seed: of the report of one run directory, and eval is none"),
        (["nowhere"], "nowhere: holds no results.json; give what `xkd eval` wrote, a folder above it, or one run directory"),
    ],
)
def test_wrong_usage_is_told(tmp_path, monkeypatch, capsys, arguments, says):
    leave(tmp_path / "eval", found())
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments, "--out", "out"]) == 2
    assert says in capsys.readouterr().err
