"""The folder of a run: its configuration, its environment, and the state that launchers read."""

import json
import os
import secrets
from pathlib import Path

from xkd.config import dump, load
from xkd.env import environment
from xkd.pipelines.samples.quarantine import Quarantine
from xkd.train.config import TrainingConfig

CONFIG = "config.yaml"
QUARANTINE = "quarantine.jsonl"
SKIPPED = "skipped"
# Where the shards lie: may hold a token, and that they are the same the loader's state says.
LOCATIONS = {"data.train", "data.test", "data.stage_dir", "data.cache_dir"}
MAY_CHANGE = LOCATIONS | {  # fields and sections that alter no number of a run, or none by more than rounding
    *("train.max_steps", "train.log_every", "train.checkpoint_every", "train.keep_checkpoints", "train.milestone_every_epochs"),
    *("train.hang_timeout_minutes", "log", "probe"),
    *("data.num_threads", "data.pipelines", "data.prefetch", "data.read_ahead", "data.max_bad_share"),
    *("data.cache_bytes", "data.allow_pipe"),
    *("train.accumulation", "train.compile", "model.activation_checkpointing", "deepspeed.zero_stage", "ema.form"),
    # of an evaluation: how often it is tested; where the weights lie, of which there is a checksum
    *("classifier.test_every_epochs", "evaluated.checkpoint", "evaluated.weights"),
}


def write_atomically(path: Path, text: str) -> None:
    """Writes `text` so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")  # ranks that fail may write at once, on several machines
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def check(config: TrainingConfig) -> None:
    """Raises ValueError where the run directory belongs to a run that is not the configured one, naming every field that differs.

    The fields of MAY_CHANGE may differ.
    """
    refused = [line for name, line in _changed(config).items() if not may_change(name)]
    if refused:
        raise ValueError(
            f"{config.run_dir / CONFIG}: this run was started with another configuration, and would become another one:\n"
            + "".join(f"  {line}\n" for line in refused)
            + "go on with the same one, or choose another run_dir"
        )


def changes(config: TrainingConfig) -> list[str]:
    """What is configured otherwise than before, a line a field; nothing for a new run."""
    return [f"  changed  {line}" for line in _changed(config).values()]


def _changed(config: TrainingConfig) -> dict[str, str]:
    """Of every field that differs from what the run was started with, a line "field: was -> is"."""
    saved = config.run_dir / CONFIG
    if not saved.exists():
        return {}
    before = fields_of(load(saved, [], {config.job: type(config)}).model_dump(mode="json"))
    now = fields_of(config.model_dump(mode="json"))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return {name: f"{name}: {_shown(name, before)} -> {_shown(name, now)}" for name in differing}


def _shown(name: str, fields: dict) -> str:
    return "(a location)" if name in LOCATIONS else f"{fields.get(name, '(not set)')}"


def may_change(name: str) -> bool:
    """Whether a run can go on with another value of this field, "train.max_steps" for example."""
    keys = name.split(".")
    return any(".".join(keys[:end]) in MAY_CHANGE for end in range(1, len(keys) + 1))


def prepare(config: TrainingConfig) -> None:
    """Makes the run directory and records the environment in it. Raises ValueError where that cannot be."""
    try:
        config.run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(config.run_dir / "environment.json", json.dumps(environment(), indent=2) + "\n")
    except OSError as error:
        raise ValueError(f"run_dir: {config.run_dir} cannot be written ({error.strerror}): choose another folder") from None


def record(config: TrainingConfig) -> None:
    """Records the configuration, which is from then on the run's."""
    write_atomically(config.run_dir / CONFIG, dump(config))


def fields_of(tree: dict, prefix: str = "") -> dict:
    """{"train.epochs": 800, ...} of a nested configuration."""
    flat = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= fields_of(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def read_quarantine(folder: Path) -> Quarantine:
    """The damaged samples that the run has found so far. Raises ValueError where the file is spoilt."""
    return Quarantine.from_jsonl(folder / QUARANTINE)


def write_quarantine(folder: Path, quarantine: Quarantine) -> None:
    """Lists the damaged samples, if there are any."""
    if len(quarantine):
        write_atomically(folder / QUARANTINE, quarantine.to_jsonl())


def write_skipped(folder: Path, step: int, ranks: list[dict]) -> None:
    """Lists the samples of a step that could not be taken, and the loss that each rank had of its own."""
    path = folder / SKIPPED / f"step-{step:06d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(ranks, indent=2) + "\n")


def write_state(folder: Path, status: str, **facts) -> None:
    """Records the run's outcome in state.json: running, done or failed, with the step and the reason."""
    write_atomically(folder / "state.json", json.dumps({"status": status, **facts}, indent=2) + "\n")


def write_failure(folder: Path, reason: str) -> None:
    """Records that the run has failed. The reason of the rank that says so first stays: others may fail for want of it."""
    try:
        failed = json.loads((folder / "state.json").read_text())["status"] == "failed"
    except FileNotFoundError:
        failed = False
    if not failed:
        write_state(folder, "failed", reason=reason)
