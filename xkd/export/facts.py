"""What is known of how exported encoders were trained: read from the run directory, and from its shards where they are at hand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xkd.config import load
from xkd.eval.checkpoint import find_weights
from xkd.eval.comparison import Result, read_results
from xkd.eval.config import Subject
from xkd.eval.results import RESULTS
from xkd.pipelines.config import DataConfig
from xkd.pipelines.shards.manifest import MANIFEST, Manifest, read_manifest
from xkd.pipelines.store.opening import is_remote, plain_location
from xkd.train.config import PretrainConfig


@dataclass(frozen=True)
class RunFacts:
    """A run, one of its checkpoints, and the results of evaluations that lie in the run directory."""

    name: str
    config: PretrainConfig
    checkpoint: Mapping  # meta.json; empty where there is none
    manifest: Manifest | None  # of the training shards; None where they are not at hand
    results: list[Result]

    @property
    def step(self) -> int | None:
        return self.checkpoint.get("step")


def run_facts(subject: Subject) -> RunFacts | None:
    """Those of the run that a checkpoint is of; None where it is a file."""
    folder = subject.evaluated_run
    if folder is None:
        return None
    config = load(folder / "config.yaml", [], {"pretrain": PretrainConfig})
    chosen = Path(subject.checkpoint)
    meta = find_weights(folder, None if chosen == folder else chosen).with_name("meta.json")
    evaluations = folder / "eval"
    results = read_results([evaluations]) if any(evaluations.rglob(RESULTS)) else []
    checkpoint = json.loads(meta.read_text()) if meta.is_file() else {}
    manifest = _manifest(config.data, checkpoint.get("loader", {}).get("shards_sha256"))
    return RunFacts(folder.resolve().name, config, checkpoint, manifest, results)


def _manifest(data: DataConfig, trained_on: str | None) -> Manifest | None:
    """The manifest of the shards that were trained on, if they still lie where they did."""
    location = plain_location(data.train)
    if is_remote(location) or not (Path(location) / MANIFEST).is_file():
        return None
    found = read_manifest(Path(location))
    return found if found.shards_sha256 == trained_on else None
