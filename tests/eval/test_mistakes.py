"""What a user of an evaluation gets wrong ends with exit code 2 and a sentence that says what to do."""

import pytest

from tests.runs import write_settings
from xkd.cli import main

COMMANDS = ("eval", "features")
SVM = "eval/svm/avdigits.yaml"


def told(capsys, *arguments):
    assert main(list(arguments)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    return told.err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["data.train=nowhere"], "data.train: nowhere: no such shard folder; write it with `xkd shards write"),
        (["dataset.name=ucf101", "dataset.fold=4"], "command line: dataset.fold: 4 is not one of 1, 2, 3, all (ucf101)"),
        (["dataset.name=ufc101"], "dataset.name: 'ufc101' is not one of kinetics400"),
        (
            ["dataset.name=folder", "dataset.classes=7"],
            "has 2 classes, folder has 7: convert all of it, or set dataset.classes to 2",
        ),
        (["dataset.name=ucf101"], "holds folder, not ucf101: set data.train to what `xkd shards write SOURCE --dataset ucf101"),
        (["dataset.name=folder", "dataset.classes=2"], "12 test clips are in the training split as well"),
        (["checkpoint=gone"], "checkpoint: gone does not exist: give the folder that `xkd train` wrote"),
        (["checkpoint=untrained"], "untrained has no run directory of its own: set architecture as well"),
        (["data.video.fps=3"], "data.video: clip: 6x32x32 cannot be cut into tokens of 4x8x8"),
        (["data.video.global_view.sise=3"], "data.video.global_view.sise: unknown key; did you mean size?"),
        (["protocol.svm_c=best"], "protocol.svm_c: 'best' is not one of cross-validation, release"),
    ],
)
def test_it_is_refused(command, wrong, says, run_dir, capsys):
    given = [f"checkpoint={run_dir}", "out=results", "dataset.classes=2", *wrong]
    assert says in told(capsys, command, SVM, *given)


def test_another_architecture_is_refused_with_the_field(run_dir, pretrain_settings, tmp_path, capsys):
    model = pretrain_settings["model"] | {"encoder": {"dim": 32, "depth": 1, "heads": 2}}
    other = write_settings(tmp_path / "other.yaml", pretrain_settings | {"model": model})
    said = told(capsys, "eval", SVM, f"checkpoint={run_dir}", f"architecture={other}", "dataset.name=folder")
    assert f"architecture: model.encoder.dim is 24 in {run_dir} and 32 in {other}" in said
