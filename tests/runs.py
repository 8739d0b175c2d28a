"""A very small net, and run directories that hold it, written without training."""

from pathlib import Path

import yaml
from safetensors.torch import save_file

from xkd.eval.checkpoint import read_architecture


def pretrain_settings(shards: Path) -> dict:
    """A pre-training configuration for the shards of the fixture `tiny_shards`."""
    transformer = {"dim": 24, "depth": 1, "heads": 2}
    return {
        "job": "pretrain",
        "run_dir": "unused",
        "data": {
            "train": str(shards),
            "test": str(shards),
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


def write_settings(path: Path, settings: dict) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def write_run(folder: Path, settings: dict, seed: int) -> Path:
    """A run directory whose newest checkpoint, after 3 steps, is the untrained net of this seed."""
    checkpoint = folder / "checkpoints" / "step-000003"
    checkpoint.mkdir(parents=True)
    net = read_architecture(write_settings(folder / "config.yaml", settings)).build(seed)
    save_file({name: tensor.clone() for name, tensor in net.state_dict().items()}, checkpoint / "weights.safetensors")
    (folder / "checkpoints" / "latest").write_text(f"{checkpoint.name}\n")
    return folder
