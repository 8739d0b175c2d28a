"""`xkd bench step` and `xkd bench scale` on the ranks of a launcher."""

import os
import subprocess
import sys

import pytest

from xkd.benchmarks import step
from xkd.benchmarks.results import read_csv
from xkd.train.distributed import free_port

BATCH = ("train.global_batch=4", "optim.base_batch=4", "loss.align_group=2")


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, "-m", "xkd", "bench", *arguments], capture_output=True, text=True, env=environment)


@pytest.mark.long
def test_all_ranks_take_the_steps_and_one_writes_the_rows(tiny_shards, tmp_path):
    rows = str(tmp_path / "step.csv")
    options = ("--shards", str(tiny_shards), "--rounds", "1", "--steps", "1", "--csv", rows, "--providers", "ddp")
    done = torchrun("step", *BATCH, *options)
    assert done.returncode == 0, done.stderr
    (total,) = (row for row in read_csv(tmp_path / "step.csv") if row["part"] == "total")
    assert total["case"].endswith("batch=4 zero_stage=1 precision=fp32 ranks=2")
    assert (float(total["items"]), total["peak_mib"]) == (4, "")

    done = torchrun("scale", "--clips", "2", "--rounds", "1", "--steps", "1", "--csv", str(tmp_path / "scale.csv"))
    assert done.returncode == 0, done.stderr
    found = read_csv(tmp_path / "scale.csv")
    assert [row["provider"] for row in found] == ["alone", "ddp", "zero 0", "zero 1", "zero 2", "zero 3"]
    assert {float(row["items"]) for row in found} == {4}


def test_step_wants_shards_that_all_ranks_see(monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="--shards: is needed on several ranks"):
        step.main(["--rounds", "1"])
