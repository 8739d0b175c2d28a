"""A run directory that holds the shared very small net."""

import pytest

from tests import runs


@pytest.fixture
def run_dir(pretrain_settings, tmp_path):
    """A run directory whose newest checkpoint is the untrained net of seed 7."""
    return runs.write_run(tmp_path / "run", pretrain_settings, seed=7)
