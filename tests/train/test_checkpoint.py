"""Checkpoints on disk: whole or absent; the newest whole one is found, and nothing goes but what is older than those to be kept."""

import pytest
import torch

from xkd.train import checkpoint
from xkd.train.snapshot import Snapshot


def write(run_dir, step, *, keep=2, milestone=False):
    """A checkpoint of a network of 1,000 weights."""
    folder = checkpoint.temporary(run_dir, step)
    values = torch.full((1000,), float(step))
    files = Snapshot({"weight": values}, {"exp_avg/weight": values / 2, "exp_avg_sq/weight": values / 3}, {"weight": 0}).write(
        folder, 0
    )
    meta = {"step": step, "milestone": milestone, "files": files}
    return checkpoint.publish(folder, meta, keep)


def steps(run_dir):
    return sorted(int(folder.name[5:]) for folder in (run_dir / "checkpoints").glob("step-*"))


def truncate(file):
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def overwrite_header(file):
    with file.open("r+b") as opened:
        opened.write(b"\xff" * 16)


DAMAGES = {  # what is done to a checkpoint, and what the warning says
    "a truncated file": (lambda folder: truncate(folder / "weights.safetensors"), "weights.safetensors has 2"),
    "a missing file": (lambda folder: (folder / "moments/rank-00000.safetensors").unlink(), "rank-00000.safetensors is missing"),
    "a spoilt header": (lambda folder: overwrite_header(folder / "weights.safetensors"), "weights.safetensors is damaged"),
    "a truncated meta.json": (lambda folder: truncate(folder / "meta.json"), "meta.json cannot be read"),
    "no meta.json": (lambda folder: (folder / "meta.json").unlink(), "meta.json cannot be read"),
    "another format": (lambda folder: (folder / "meta.json").write_text('{"format": 9}'), "is of format 9, and this version reads"),
}


def test_a_run_without_checkpoints_has_none(tmp_path):
    assert checkpoint.newest(tmp_path) == (None, [])


def test_the_newest_is_found_and_latest_names_it(tmp_path):
    write(tmp_path, 5)
    folder = write(tmp_path, 12)
    found, warnings = checkpoint.newest(tmp_path)
    assert (found.folder, found.step, warnings) == (folder, 12, [])
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step-000012\n"


def test_so_many_are_kept_and_milestones_for_good(tmp_path):
    for step in range(1, 7):
        write(tmp_path, step, keep=2, milestone=step == 2)
    assert steps(tmp_path) == [2, 5, 6]


@pytest.mark.parametrize("name", DAMAGES)
def test_a_broken_checkpoint_is_named_and_the_one_before_is_used(tmp_path, name):
    spoil, words = DAMAGES[name]
    older, newer = write(tmp_path, 5), write(tmp_path, 12)
    spoil(newer)
    found, (warning,) = checkpoint.newest(tmp_path)
    assert found.folder == older
    assert f"{newer}: {words}" in warning or f"{newer}: moments/{words}" in warning
    assert "goes on from step-000005" in warning
    assert steps(tmp_path) == [5, 12]


def test_a_latest_that_names_nothing_is_told(tmp_path):
    folder = write(tmp_path, 5)
    (tmp_path / "checkpoints" / "latest").write_text("step-000099\n")
    found, (warning,) = checkpoint.newest(tmp_path)
    assert found.folder == folder
    assert "latest: names step-000099, which is not there" in warning


def test_where_none_is_whole_the_run_is_refused_with_the_fix(tmp_path):
    for step in (5, 12):
        truncate(write(tmp_path, step) / "weights.safetensors")
    with pytest.raises(ValueError, match=r"step-000012: .*step-000005: .*copy one back, or start with a new run_dir"):
        checkpoint.newest(tmp_path)
    assert steps(tmp_path) == [5, 12]


def test_what_is_half_written_is_no_checkpoint(tmp_path):
    folder = checkpoint.temporary(tmp_path, 7)
    Snapshot({"weight": torch.zeros(3)}, {}, {}).write(folder, 0)
    assert checkpoint.newest(tmp_path) == (None, [])
    checkpoint.clear(tmp_path)
    assert steps(tmp_path) == []


def test_a_broken_checkpoint_stays_until_its_step_is_saved_again(tmp_path):
    write(tmp_path, 5)
    truncate(write(tmp_path, 12) / "weights.safetensors")
    write(tmp_path, 8, keep=1)
    assert steps(tmp_path) == [8, 12]
    write(tmp_path, 12, keep=1)
    assert steps(tmp_path) == [12]
    assert checkpoint.newest(tmp_path)[0].step == 12
