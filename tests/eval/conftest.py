"""A very small net on the shared shards, and a run directory that holds it."""

import pytest

from tests import runs
from xkd.eval.checkpoint import read_architecture


@pytest.fixture(scope="session")
def pretrain_settings(tiny_shards):
    return runs.pretrain_settings(tiny_shards)


@pytest.fixture(scope="session")
def pretrain_yaml(pretrain_settings, tmp_path_factory):
    return runs.write_settings(tmp_path_factory.mktemp("pretrain") / "pretrain.yaml", pretrain_settings)


@pytest.fixture(scope="session")
def architecture(pretrain_yaml):
    return read_architecture(pretrain_yaml)


@pytest.fixture
def run_dir(pretrain_settings, tmp_path):
    """A run directory whose newest checkpoint is the untrained net of seed 7."""
    return runs.write_run(tmp_path / "run", pretrain_settings, seed=7)
