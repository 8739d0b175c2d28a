"""A run, and what is exported of it."""

import pytest

from tests.exports import write_export, write_run


@pytest.fixture(scope="session")
def exported(pretrain_settings, tmp_path_factory):
    """The student's encoders of the untrained net of seed 7."""
    root = tmp_path_factory.mktemp("exported")
    return write_export(write_run(root / "run", pretrain_settings), root / "encoder", backbone="student")
