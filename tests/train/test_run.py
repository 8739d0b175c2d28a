"""What a run refuses before it begins."""

import pytest
import torch.distributed as dist

from xkd.config import load
from xkd.train.config import PretrainConfig
from xkd.train.pretraining import PretrainJob
from xkd.train.run import train


def test_kernels_that_cannot_run_here_are_refused_before_anything_is_written(tiny_shards, tmp_path, monkeypatch):
    monkeypatch.setenv("XKD_KERNELS", "triton")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    fields = (f"data.train={tiny_shards}", f"data.test={tiny_shards}", f"run_dir={tmp_path / 'run'}", "train.global_batch=4")
    with pytest.raises(ValueError, match="XKD_KERNELS=triton: Triton's kernels cannot run on cpu tensors: set it to auto or torch"):
        train(PretrainJob, load("configs/pretrain/demo.yaml", fields, {"pretrain": PretrainConfig}))
    assert not (tmp_path / "run").exists()
    assert not dist.is_initialized()
