"""The commands that the documentation gives to users of the XKD repository are those of configurations that there are."""

import re
from pathlib import Path

import pytest

from xkd.config import load
from xkd.eval.config import Subject
from xkd.jobs import schemas

README = Path(__file__).parents[2] / "README.md"
COMMANDS = re.findall(r"^\| .*`xkd (launch|eval) ([^\s`]+)(.*)`(?: \.\.\.)? \|$", README.read_text(), re.MULTILINE)


def test_every_command_of_the_repository_is_answered():
    """Three of pre-training, five of fine-tuning, two linear ones, four of the SVM."""
    assert len(COMMANDS) == 14
    jobs = [config.split("/")[-2] for _, config, _ in COMMANDS]
    assert {job: jobs.count(job) for job in jobs} == {"pretrain": 3, "finetune": 5, "linear": 2, "svm": 4}


@pytest.mark.parametrize(("start", "config", "overrides"), COMMANDS, ids=[config for _, config, _ in COMMANDS])
def test_its_configuration_is_valid_and_evaluates_what_it_is_named_for(start, config, overrides, tmp_path):
    found = load(config, overrides.replace("RUN", str(tmp_path)).split(), schemas())
    assert (start == "eval") == (found.job == "eval")
    if start == "launch":
        assert found.run_dir  # launchers start one run
    if isinstance(found, Subject):
        assert found.dataset.name == Path(config).stem
        assert bool(found.dataset.fold) == bool(found.dataset.task.folds)
