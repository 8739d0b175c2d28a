"""Exported folders of the very small net, and the runs that they are of, with a checkpoint's record."""

import json
from pathlib import Path

from tests import runs
from xkd.config import from_overrides
from xkd.export.config import ExportConfig
from xkd.export.run import export
from xkd.pipelines.shards.manifest import read_manifest


def write_run(folder: Path, settings: dict, seed: int = 7) -> Path:
    """A run directory whose teachers are not its students, with meta.json as `xkd train` leaves it."""
    runs.write_run(folder, settings, seed)
    manifest = read_manifest(Path(settings["data"]["train"]))
    meta = {"step": 3, "epoch": 1.5, "loader": {"num_samples": manifest.num_samples, "shards_sha256": manifest.shards_sha256}}
    (folder / "checkpoints" / "step-000003" / "meta.json").write_text(json.dumps(meta))
    return folder


def write_export(checkpoint: Path | str, out: Path, layout: str = "safetensors", **choices) -> Path:
    """What `xkd export CHECKPOINT --out OUT --format LAYOUT NAME=CHOICE ...` writes."""
    words = [f"{name}={choice}" for name, choice in choices.items()]
    export(from_overrides([f"checkpoint={json.dumps(str(checkpoint))}", *words], ExportConfig), out, layout)
    return out
