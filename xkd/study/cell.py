"""One cell of a study: trains, evaluates, and leaves a record."""

import json
import time

import numpy as np

from xkd.env import environment
from xkd.eval.config import EvalConfig
from xkd.eval.run import extraction_of, fill, prepare
from xkd.eval.splits import identity
from xkd.eval.svm import evaluate_svm
from xkd.study import media
from xkd.study.plan import Cell, shards_of
from xkd.train.pretraining import PretrainJob
from xkd.train.run import DONE, train
from xkd.train.run_directory import write_atomically

LOGGED = ("loss", "recon", "cmkd", "align", "feature_std_", "teacher_entropy_")  # of the last line of metrics.jsonl


def run_cell(cell: Cell) -> int:
    """Does what is left of a cell: goes on from its newest checkpoint, keeps its record. Returns the exit code of the training.

    Another process that is at the same cell is waited for. Raises what training and evaluation raise.
    """
    media.prepare(cell.study, cell.media, workers=1)
    with media.locked(cell.study.work_dir / "locks" / f"{cell.name}.lock"):
        if cell.record.is_file():
            return DONE
        begun_at, wall, processor = _steps_done(cell), time.monotonic(), time.process_time()
        if code := train(PretrainJob, cell.pretrain):
            return code
        last = _last_metrics(cell)
        took = {
            "steps": last["step"] - begun_at,  # of a run that was stopped: of its last part
            "seconds": round(time.monotonic() - wall, 1),
            "cpu_seconds": round(time.process_time() - processor, 1),
        }
        cell.record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cell.record, json.dumps(_record(cell, last, took), indent=2) + "\n")
        return DONE


def _record(cell: Cell, last: dict, took: dict) -> dict:
    scores = _evaluate(cell)
    return {
        "row": cell.row.name,
        "seed": cell.seed,
        "identity": cell.identity,
        "steps": last["step"],
        **scores,
        "training": {name: last[name] for name in last if name.startswith(LOGGED)},
        "took": took,
        "settings": cell.settings,
        "versions": environment(),
    }


def _evaluate(cell: Cell) -> dict:
    """Accuracies by modality; which test clips were right, a bit each in the order of the shards; and what these were."""
    study = cell.study
    config = EvalConfig(
        job="eval",
        checkpoint=str(cell.run_dir),
        backbone=study.backbone,
        dataset={"name": "avdigits"},
        data={split: str(shards_of(study, cell.media, split)) for split in ("train", "test")},
        protocol=study.svm,
    )
    subject, data, folds = prepare(config)
    (fold,) = folds
    extraction = extraction_of(config, subject, data)
    fill(extraction, config, folds)
    (train_split, _), (test_split, dropped) = (extraction.features(part, "eval") for part in (fold.train, fold.test))
    assert not dropped, f"clips that were drawn here cannot be read: {dropped}"
    found = evaluate_svm(train_split, test_split, config.protocol, config.seed)
    return {
        "accuracy": {modality: float(result.correct.mean()) for modality, result in found.items()},
        "c": {modality: result.c for modality, result in found.items()},
        "clips": len(test_split.labels),
        "correct": {modality: to_hex(result.correct) for modality, result in found.items()},
        "shards": {split: identity(getattr(fold, split).shards)["shards_sha256"] for split in ("train", "test")},
    }


def to_hex(bits: np.ndarray) -> str:
    """Booleans [N], eight a byte."""
    return np.packbits(bits).tobytes().hex()


def from_hex(text: str, count: int) -> np.ndarray:
    """The booleans [count] that `to_hex` was given."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)


def _steps_done(cell: Cell) -> int:
    latest = cell.run_dir / "checkpoints" / "latest"
    return int(latest.read_text().strip().removeprefix("step-")) if latest.is_file() else 0


def _last_metrics(cell: Cell) -> dict:
    lines = (cell.run_dir / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if "loss" in line][-1]
