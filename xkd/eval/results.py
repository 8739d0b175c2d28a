"""The record of an evaluation: its measures by fold and class, what was evaluated on what, with which software."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import sklearn

from xkd.config import Settings
from xkd.env import environment
from xkd.eval import metrics
from xkd.eval.scores import LEVEL, estimate
from xkd.eval.splits import Fold, identity
from xkd.eval.tasks import Task
from xkd.pipelines.config import DataConfig

FORMAT = 1
RESULTS = "results.json"


def judge(scores: np.ndarray, targets: np.ndarray, task: Task) -> dict:
    """The measures of one modality in one fold, each with what it rests on; a class without test samples has None.

    `top1`, `top5`: accuracy with the ends of its bootstrap interval over samples; `map`: the mean over classes that have samples.
    """
    if task.multi_label:
        by_class = metrics.average_precision(scores, targets)
        return {"map": {"mean": float(np.nanmean(by_class))}, "per_class": _without_nan(by_class)}
    hits = metrics.top_hits(scores, targets)
    return {
        **{name: asdict(estimate(hit)) for name, hit in hits.items()},
        "per_class": _without_nan(metrics.class_accuracy(scores, targets)),
        "confusion": metrics.confusion(scores, targets).tolist(),
    }


def of_fold(fold: Fold, modalities: Mapping[str, dict], dropped: Mapping[str, dict[str, str]]) -> dict:
    """The record of a fold: `modalities` holds what `judge` (or a protocol of its own) found, `dropped` the damaged by split."""
    parts = {"train": fold.train, "test": fold.test}
    splits = {
        split: {"samples": len(part.ids) - len(dropped.get(split, {})), "dropped": dict(dropped.get(split, {}))}
        for split, part in parts.items()
    }
    return {"fold": fold.number, "modalities": dict(modalities), **splits, "leaks": fold.leaks}


def results(
    config: Settings,
    *,
    protocol: str,
    evaluated: dict,
    data: DataConfig,
    folds: Sequence[Fold],
    records: Sequence[dict],
    seconds: float,
    metric: str | None = None,
) -> dict:
    """What results.json holds; `records` are those of the folds (`of_fold`), `data` the views as they were used.

    `metric` is the measure that counts; None: the task's.
    """
    return {
        "format": FORMAT,
        "protocol": protocol,
        "dataset": config.dataset.name,
        "metric": metric or config.dataset.task.metric,
        "evaluated": evaluated,
        "scores": over_folds([record["modalities"] for record in records]),
        "folds": list(records),
        "classes": folds[0].test.shards.classes,
        "data": {split: identity(getattr(folds[0], split).shards) for split in ("train", "test")},
        "views": data.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        "versions": environment() | {"scikit-learn": sklearn.__version__},
        "seconds": round(seconds, 1),
    }


def over_folds(modalities: Sequence[Mapping[str, dict]]) -> dict:
    """{modality: {measure: mean over folds}}: of one fold with its interval, of several with the deviation between them."""
    scores = {}
    for modality, first in modalities[0].items():
        scores[modality] = {}
        for name, measure in first.items():
            if isinstance(measure, dict) and "mean" in measure:
                values = [of[modality][name]["mean"] for of in modalities]
                several = (
                    {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "folds": values} if values[1:] else {}
                )
                scores[modality][name] = several or measure
    return scores


def _spread(values: list[float]) -> dict:
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "folds": values}


def write(found: dict, folder: Path) -> None:
    """Leaves results.json and results.md in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).write_text(json.dumps(found, indent=2) + "\n")
    (folder / "results.md").write_text(report(found))


def report(found: dict) -> str:
    """Results as markdown: the measures, what was evaluated, and on what they rest."""
    scores = found["scores"]
    names = list(dict.fromkeys(name for measures in scores.values() for name in measures))
    table = [["", *names], ["---"] * (1 + len(names))]
    table += [[modality, *(_cell(measures.get(name)) for name in names)] for modality, measures in scores.items()]
    facts = [f"{name}: {_inline(value)}" for name, value in found["evaluated"].items()]
    for record in found["folds"]:
        facts += [f"{_of(record)}{line}" for line in _about(record)]
    facts += [f"{split}: {_sentence(identity)}" for split, identity in found["data"].items()]
    return "\n".join(
        [
            f"{found['dataset']}, {found['protocol']}: per cent {_meaning(found['folds'])}",
            "",
            *(f"| {' | '.join(line)} |" for line in table),
            "",
            *(f"- {fact}" for fact in facts),
            "",
        ]
    )


def _cell(measure: dict | None) -> str:
    if measure is None:
        return "-"
    if "std" in measure:
        return f"{100 * measure['mean']:.1f} +- {100 * measure['std']:.1f}"
    ends = f" [{100 * measure['low']:.1f}, {100 * measure['high']:.1f}]" if "low" in measure else ""
    return f"{100 * measure['mean']:.1f}{ends}"


def _meaning(records: Sequence[dict]) -> str:
    if len(records) > 1:
        return f"(mean of {len(records)} folds +- their standard deviation)"
    fold = f"of fold {records[0]['fold']} " if records[0]["fold"] else ""
    return f"{fold}[{LEVEL:.0%} bootstrap interval over test samples]"


def _of(record: dict) -> str:
    return f"fold {record['fold']}, " if record["fold"] else ""


def _about(record: dict):
    for modality, found in record["modalities"].items():
        if note := found.get("note"):
            yield f"{modality}: {note}"
    yield f"{record['train']['samples']} training and {record['test']['samples']} test samples"
    for split in ("train", "test"):
        if dropped := record[split]["dropped"]:
            yield f"left out of {split}, for they are damaged or lack a stream: {', '.join(dropped)}"
    if record["leaks"]:
        pairs = ", ".join(f"{test} ({train})" for train, test in record["leaks"])
        yield f"{len(record['leaks'])} TEST SAMPLES ARE IN THE TRAINING SPLIT: {pairs}"


def _sentence(facts: dict) -> str:
    done = facts["completeness"]
    official = f" of {done['official']} published" if done["official"] else ""
    missing = f" ({facts['failures']} could not be converted)" if facts["failures"] else ""
    return f"{facts['samples']} clips{official} of {facts['name']}/{facts['split']}{missing}, shards {facts['shards_sha256'][:12]}"


def _inline(value) -> str:
    return ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else str(value)


def _without_nan(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
