"""What is recorded of the environment."""

import json
import subprocess

import pytest

from xkd import env


def test_the_record_can_be_written_as_json_and_has_every_version():
    record = json.loads(json.dumps(env.environment()))
    assert {"gpus", "driver", "commit"} <= record.keys()
    assert all(record[name] for name in ("xkd", "torch", "deepspeed", "dali", "av", "triton", "platform", "cpu", "memory_gib"))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit that the module takes for its own checkout."""
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c")
    (tmp_path / "file").write_text("a")
    for command in (("init", "-q"), ("add", "file"), ("commit", "-qm", "one")):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(env, "_CHECKOUT", tmp_path)
    monkeypatch.delenv("XKD_COMMIT", raising=False)
    return tmp_path


def test_the_commit_is_that_of_the_checkout_and_says_when_files_differ(checkout):
    clean = env.commit()
    assert len(clean) == 40
    (checkout / "new").write_text("not tracked")
    assert env.commit() == clean
    (checkout / "file").write_text("b")
    assert env.commit() == f"{clean}-dirty"


def test_a_given_commit_stands_in_for_the_history(checkout, monkeypatch):
    monkeypatch.setenv("XKD_COMMIT", "0123abc")
    assert env.commit() == "0123abc"


def test_without_history_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(env, "_CHECKOUT", tmp_path)
    monkeypatch.delenv("XKD_COMMIT", raising=False)
    assert env.commit() is None


def test_a_bug_report_has_the_variables_that_change_a_run_and_no_secrets(monkeypatch):
    for name, value in {
        "NCCL_SOCKET_IFNAME": "eth0",
        "SLURM_JWT": "hush-1",
        "XKD_TOKEN": "hush-2",
        "HOME_OF_MINE": "hush-3",
    }.items():
        monkeypatch.setenv(name, value)
    shown = env.bug_report()
    assert {"NCCL_SOCKET_IFNAME=eth0", "SLURM_JWT=(hidden)", "XKD_TOKEN=(hidden)"} <= set(shown["variables"])
    assert "hush" not in str(shown)
    assert shown["safetensors"]


def test_a_bug_report_says_what_cuda_torch_has():
    import torch

    found = env.torch_cuda()
    assert found.startswith(torch.version.cuda or "none")
