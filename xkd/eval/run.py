"""One evaluation: frozen features of two shard folders, a protocol, and a record of what was evaluated on what."""

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import sklearn

from xkd.env import environment
from xkd.eval.checkpoint import Architecture, encoders, find_weights, load_weights, read_architecture
from xkd.eval.config import UNTRAINED, DataOverlay, EvalConfig
from xkd.eval.scores import LEVEL, Estimate, estimate
from xkd.eval.svm import evaluate_svm
from xkd.eval.tables import markdown
from xkd.features import extract
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.store.opening import open_shards

SPLITS = ("train", "test")


def run(config: EvalConfig) -> dict:
    """Evaluate; write results.json and results.md into `config.out_dir`; return what results.json holds.

    Raises ValueError where the run, its checkpoint or a shard folder is missing, or they do not fit each other.
    """
    began = time.monotonic()
    architecture = read_architecture(config.architecture_source)
    shards = open_splits(architecture, config.architecture_source, config.data)
    net, evaluated = _build(config, architecture)
    nets = {"net": encoders(net, config.backbone)}
    features, dropped = {}, {}
    for split, shard_set in shards.items():
        with Loader(shard_set, architecture.data, preset="eval", batch_size=config.batch_size) as loader:
            features[split] = extract(loader, nets)["net"]
            dropped[split] = dict(loader.dropped)
    scores = evaluate_svm(features["train"], features["test"], config.protocol, config.seed)
    results = {
        "evaluated": evaluated,
        "scores": {
            modality: {**asdict(estimate(score.correct)), "c": score.c, "cv_accuracy": score.cv_accuracy}
            for modality, score in scores.items()
        },
        "protocol": config.protocol.model_dump(mode="json"),
        "data": {split: identity(shard_set) | {"dropped": dropped[split]} for split, shard_set in shards.items()},
        "config": config.model_dump(mode="json"),
        "versions": environment() | {"scikit-learn": sklearn.__version__},
        "seconds": round(time.monotonic() - began, 1),
    }
    config.out_dir.mkdir(parents=True, exist_ok=True)
    (config.out_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (config.out_dir / "results.md").write_text(report(results))
    return results


def report(results: dict) -> str:
    """Results as markdown: what was evaluated, the accuracies, and on what they rest."""
    evaluated, protocol = results["evaluated"], results["protocol"]
    cells = {modality: Estimate(score["mean"], score["low"], score["high"]) for modality, score in results["scores"].items()}
    chosen = ", ".join(f"{modality} {score['c']:g}" for modality, score in results["scores"].items())
    lines = [
        *(f"- {name}: {value}" for name, value in evaluated.items()),
        f"- protocol: {protocol['name']}, C by {protocol['folds']}-fold cross-validation on the training split: {chosen}",
        *(f"- {split}: {_sentence(facts)}" for split, facts in results["data"].items()),
    ]
    title = f"Accuracy in per cent [{LEVEL:.0%} bootstrap interval over test clips]"
    return "\n".join([title, "", markdown({protocol["name"]: cells}), *lines, ""])


def identity(shards: ShardSet) -> dict:
    """What a score rests on: which data set, how much of it, and the checksum of the shards."""
    manifest = shards.manifest
    digest = hashlib.sha256("".join(shard.tar_sha256 for shard in manifest.shards).encode()).hexdigest()
    return {
        "folder": shards.location,
        "name": manifest.name,
        "split": manifest.split,
        "samples": manifest.num_samples,
        "failures": manifest.num_failures,
        "source_identity": manifest.settings.source_identity,
        "shards_sha256": digest,
    }


def _sentence(facts: dict) -> str:
    missing = f" ({facts['failures']} could not be converted)" if facts["failures"] else ""
    lost = f"; left out, for they are damaged: {', '.join(facts['dropped'])}" if facts["dropped"] else ""
    return f"{facts['samples']} clips of {facts['name']}/{facts['split']}{missing}, shards {facts['shards_sha256'][:12]}{lost}"


def open_splits(architecture: Architecture, source: Path, chosen: DataOverlay) -> dict[str, ShardSet]:
    """The shards to fit on and to score, `chosen` or else those that `source` names.

    Raises ValueError where one is missing, a sample has not exactly one label, or the two have different classes.
    """
    folders = {split: getattr(chosen, split) or getattr(architecture.data, split) for split in SPLITS}
    for split, folder in folders.items():
        if folder is None:
            raise ValueError(f"data.{split}: no shard folder is given, and {source} names none")
    data = chosen.over(architecture.data)
    shards = {split: open_shards(folder, data) for split, folder in folders.items()}
    for shard_set in shards.values():
        shard_set.labels()  # refuses samples without exactly one label
    if shards["train"].classes != shards["test"].classes:
        raise ValueError(
            f"{folders['train']} has the classes {shards['train'].classes}, {folders['test']} {shards['test'].classes}:"
            " give two splits of one data set"
        )
    return shards


def _build(config: EvalConfig, architecture: Architecture) -> tuple[XKD, dict]:
    """The net to evaluate, and what it is."""
    net = architecture.build(config.seed)
    facts = {"checkpoint": config.checkpoint, "backbone": config.backbone}
    if config.checkpoint == UNTRAINED:
        return net, facts | {"architecture": str(config.architecture), "seed": config.seed}
    weights = find_weights(Path(config.checkpoint))
    load_weights(net, weights)
    return net, facts | {"weights": str(weights), "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
