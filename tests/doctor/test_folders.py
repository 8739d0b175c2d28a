"""The run directory: what it can do, what the others see of it, and what it has room for."""

from dataclasses import replace
from pathlib import Path

import pytest

from xkd.doctor import folders
from xkd.train.distributed import Place


def statuses(verdicts):
    return {verdict.check: verdict.status for verdict in verdicts}


def test_a_good_folder_is_ok_and_left_as_it_was(alone, tmp_path):
    with alone.ending:
        assert set(statuses(folders.check(alone)).values()) == {"ok"}
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_failure_with_the_reason(alone, config):
    there = replace(alone, config=config.model_copy(update={"run_dir": Path("/proc/xkd/run")}))
    (verdict,) = folders.check(there)
    assert (verdict.check, verdict.status) == ("run_dir", "failed")
    assert verdict.found.startswith("/proc: cannot be written (")


def test_what_a_file_system_does_wrong_or_refuses_is_named(tmp_path, monkeypatch):
    def refuses(folder):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(folders, "TRIALS", {"this": lambda folder: False, "that": refuses, "all": lambda folder: True})
    faults = folders.semantics(tmp_path)
    assert faults == {"this": "was done wrong", "that": "Invalid argument"}
    verdict = folders.judge_semantics(tmp_path, faults)
    assert (verdict.status, verdict.fix) == ("failed", folders.POSIX)


@pytest.mark.parametrize(("share", "status"), [(0.99, "failed"), (1.01, "ok")])
def test_room_is_needed_for_all_checkpoints(config, share, status):
    free = int(share * (config.train.keep_checkpoints + 1) * folders.checkpoint_bytes(config))
    assert folders.judge_room(Path("/"), free, config).status == status


@pytest.mark.parametrize(("name", "status"), [("seen", "ok"), ("elsewhere", "failed")])
def test_a_node_that_does_not_see_what_the_first_one_wrote_says_so(alone, tmp_path, monkeypatch, name, status):
    monkeypatch.setattr(folders, "SEEN_SECONDS", 0.2)
    (tmp_path / "seen").touch()
    alone.note(folders.TRIAL, str(tmp_path / name))
    second = replace(alone, place=Place(1, 0, 2))
    assert statuses(folders.check(second))["shared run_dir"] == status


def test_a_first_node_that_could_not_write_is_not_waited_for_forever(alone, monkeypatch):
    monkeypatch.setattr(folders, "SEEN_SECONDS", 0.2)
    assert statuses(folders.check(replace(alone, place=Place(1, 0, 2))))["shared run_dir"] == "failed"


def test_without_a_configuration_it_is_not_checked(alone):
    (verdict,) = folders.check(replace(alone, config=None))
    assert (verdict.status, verdict.fix) == ("not checked", folders.GIVE_CONFIG)
