"""A short run for every start, and what it comes to undisturbed."""

import sys

import pytest

from tests.launch import cluster

# 36 steps of 4 clips; a checkpoint every 4 steps.
RUN = (
    *("pretrain/demo.yaml", "train.global_batch=4", "train.epochs=12", "train.log_every=1", "train.checkpoint_every=4"),
    *("optim.warmup_epochs=0.5", "optim.base_batch=4"),
)


@pytest.fixture(scope="session")
def run(tiny_shards):
    """The configuration and its overrides, without run_dir."""
    return (*RUN, f"data.train={tiny_shards}", f"data.test={tiny_shards}")


@pytest.fixture(scope="session")
def undisturbed(run, tmp_path_factory):
    """Losses by step of `xkd launch` with two ranks on this machine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = cluster.start((sys.executable, "-m", "xkd", "launch", "--ranks", "2", *run, f"run_dir={folder}"), folder)
    told = cluster.finish(process)
    assert process.returncode == 0, told
    return cluster.losses(folder)
