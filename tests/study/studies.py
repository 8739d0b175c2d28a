"""A study small enough to run, and records as its cells would leave them."""

import json

import numpy as np
import yaml

from tests.runs import pretrain_settings
from xkd.study.cell import to_hex
from xkd.study.plan import load_cells

CLIPS = {"fps": 4, "num_frames": 8}  # of full size: at 64 x 64 libx264 writes other bytes each time


def write_study(folder, **fields):
    """Two rows, two seeds, 20 clips to train on and 20 to test on; `fields` replace those of the study."""
    training = {"train": {"global_batch": 4, "epochs": 2, "log_every": 1, "checkpoint_every": 2}, "optim": {"warmup_epochs": 1}}
    (folder / "net.yaml").write_text(yaml.safe_dump(pretrain_settings(folder) | training))
    study = {
        "job": "study",
        "work_dir": str(folder / "work"),
        "records": str(folder / "records"),
        "pretrain": str(folder / "net.yaml"),
        "media": {"small": {"train": 20, "test": 20, "clips": CLIPS}},
        "svm": {"c": [1.0], "folds": 2},
        "seeds": [0, 1],
        "primary": {"row": "all", "score": "video"},
        "rows": [{"name": "recon", "fields": {"loss": {"weights": {"cmkd": 0, "align": 0}}}}, {"name": "all", "against": "recon"}],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study | fields))
    return str(path)


def cells_of(path, *overrides):
    return load_cells(path, overrides)[1]


def write_record(cell, correct, shards="of these clips"):
    """A record whose every score has these clips right."""
    scores = ("video", "audio", "both")
    record = {
        **{"row": cell.row.name, "seed": cell.seed, "identity": cell.identity, "steps": 10, "clips": len(correct)},
        "correct": dict.fromkeys(scores, to_hex(np.asarray(correct, bool))),
        "shards": {"test": shards},
        "took": {"steps": 10, "seconds": 1.0, "cpu_seconds": 2.0},
        "versions": {"commit": "0123456789abcdef", "cpus": 2, "cpu": "a machine"},
    }
    cell.record.parent.mkdir(parents=True, exist_ok=True)
    cell.record.write_text(json.dumps(record))
