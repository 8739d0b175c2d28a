"""A linear evaluation or a fine-tuning: a training run a fold, then the record of their tests."""

import json
import time
from collections.abc import Iterator
from functools import partial

from xkd.eval import results
from xkd.eval.classification_job import ClassificationJob
from xkd.eval.scoring import FILE, read_scores
from xkd.eval.splits import open_folds
from xkd.eval.subject import open_subject, views_of
from xkd.eval.training_config import FoldConfig, TrainingEvalConfig
from xkd.train.distributed import find_place
from xkd.train.run import DONE, train


def run(config: TrainingEvalConfig) -> tuple[int, dict | None]:
    """Trains and tests on every fold that is asked for, and goes on where an earlier start has stopped.

    Returns the exit code and, on rank 0 once all folds are done, what results.json holds. Every rank of a launcher calls it.
    Raises as `train`, and ValueError where the checkpoint is not one of a net that can be evaluated.
    """
    began = time.monotonic()
    subject = open_subject(config)
    data = views_of(config, subject)
    runs = [config.of_fold(fold, data, subject.facts) for fold in config.dataset.folds]
    code = train(partial(ClassificationJob, subject.encoders), *runs)
    if code != DONE:
        return code, None
    if find_place().rank != 0:
        return DONE, None
    folds = open_folds(config.dataset, runs[0].data)
    found = results.results(
        config,
        protocol=config.job,
        evaluated=subject.facts,
        data=runs[0].data,
        folds=folds,
        records=[_record(*pair) for pair in zip(runs, folds, strict=True)],
        seconds=time.monotonic() - began,
    )
    results.write(found, config.out_dir)
    return DONE, found


def _record(run: FoldConfig, fold) -> dict:
    """The record of a fold whose run is done."""
    scored, task = read_scores(run.run_dir / FILE), run.dataset.task
    tests = list(_tests(run))
    judged = {}
    for modality, scores in scored.scores.items():
        name = f"test/{modality}_{task.metric}"
        best = max(tests, key=lambda row: row[name])
        judged[modality] = results.judge(scores.numpy(), scored.targets.numpy(), task) | {
            "best": {"value": best[name], "epoch": best["epoch"]},
            "note": f"the last epoch; the best of {len(tests)} tests was {100 * best[name]:.1f} after epoch {best['epoch']:g}",
        }
    return results.of_fold(fold, judged, {"test": scored.dropped})


def _tests(run: FoldConfig) -> Iterator[dict]:
    """The rows of a run's log that hold a test."""
    for line in (run.run_dir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "test/samples" in row:
            yield row
