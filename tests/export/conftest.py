"""A run to export from."""

import pytest

from tests.exports import write_run


@pytest.fixture(scope="session")
def run(pretrain_settings, tmp_path_factory):
    """A run directory whose newest checkpoint is the untrained net of seed 7."""
    return write_run(tmp_path_factory.mktemp("exports") / "run", pretrain_settings)
