"""One process, with a configuration for the tiny shards."""

import pytest
import torch

from xkd.doctor.context import Context
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place


@pytest.fixture
def config(pretrain_settings, tmp_path):
    return PretrainConfig.model_validate(pretrain_settings | {"run_dir": tmp_path / "runs" / "one"})


@pytest.fixture
def alone(config):
    """The context of a process that is alone."""
    with_gpu = torch.cuda.is_available()
    context = Context(Place(0, 0, 1), "here", "gpu" if with_gpu else "cpu", config, torch.distributed.HashStore())
    with context.ending:
        yield context
