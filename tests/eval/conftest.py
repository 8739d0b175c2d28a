"""A very small net on the shared shards, and a run directory that holds it."""

from pathlib import Path

import pytest
import yaml
from safetensors.torch import save_file

from xkd.eval.checkpoint import Architecture, read_architecture


@pytest.fixture(scope="session")
def pretrain_settings(tiny_shards) -> dict:
    transformer = {"dim": 24, "depth": 1, "heads": 2}
    return {
        "job": "pretrain",
        "run_dir": "unused",
        "data": {
            "train": str(tiny_shards),
            "test": str(tiny_shards),
            "clip_seconds": 2.0,
            "video": {"fps": 4, "global_view": {"size": 32, "flip": 0.0, "hue": 0.0}, "local_view": {"size": 16, "frames": 4}},
            "audio": {"hop": 500, "num_mels": 16, "local_view": {"seconds": 1.0, "resize_crop": False}},
        },
        "model": {
            "encoder": transformer,
            "decoder": transformer,
            "video": {"tubelet": [4, 8, 8]},
            "audio": {"patch": [16, 1]},
            "projector": {"hidden_dim": 16, "bottleneck_dim": 8, "out_dim": 32},
        },
    }


@pytest.fixture(scope="session")
def pretrain_yaml(pretrain_settings, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pretrain") / "pretrain.yaml"
    path.write_text(yaml.safe_dump(pretrain_settings))
    return path


@pytest.fixture(scope="session")
def architecture(pretrain_yaml) -> Architecture:
    return read_architecture(pretrain_yaml)


@pytest.fixture
def run_dir(pretrain_yaml, architecture, tmp_path) -> Path:
    """A run directory whose newest checkpoint is the untrained net of seed 7."""
    folder = tmp_path / "run"
    (folder / "checkpoints" / "step-000003").mkdir(parents=True)
    (folder / "config.yaml").write_bytes(pretrain_yaml.read_bytes())
    save_file(
        {name: tensor.clone() for name, tensor in architecture.build(seed=7).state_dict().items()},
        folder / "checkpoints" / "step-000003" / "weights.safetensors",
    )
    (folder / "checkpoints" / "latest").write_text("step-000003\n")
    return folder
