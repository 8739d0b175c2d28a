"""The report of a pre-training run: its net beside references on the same clips, what was checked, and pictures."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from xkd.env import environment
from xkd.eval import charts
from xkd.eval.checkpoint import load_trained, read_architecture
from xkd.eval.compare import BATCH_SIZE, TRAINED, UNTRAINED, compare
from xkd.eval.config import DatasetConfig, SupervisedConfig, SvmConfig
from xkd.eval.diagnose import diagnose
from xkd.eval.splits import identity, open_folds
from xkd.eval.tables import accuracies, differences, markdown
from xkd.pipelines.inspect.preview import contact_sheet, save
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.visualize.clips import first_clips
from xkd.visualize.curves import curves, read_metrics
from xkd.visualize.reconstruction import reconstructions

MODALITIES = ("video", "audio")
COLLAPSED = 1 / 3  # of the untrained net's deviation of features
SUPERVISED_BATCH = 16
DRAWN_CLIPS = 4
PICTURES = {
    "contact-sheet.png": "Test clips as stored in the shards: frames, spectrogram, class",
    "loss-curves.png": "Training",
    "reconstructions.png": "Masked reconstruction of test clips",
    "accuracy.png": "Accuracy on the test clips",
}


@dataclass(frozen=True)
class Check:
    """A sentence about the run, and whether it holds; the report fails where a required one does not."""

    sentence: str
    holds: bool
    required: bool


def write_report(
    run_dir: Path, out: Path, *, backbone: Literal["student", "teacher"] = "student", supervised_epochs: int = 12, seed: int = 0
) -> bool:
    """Evaluates a run's net and its references on the run's shards; writes report.md, report.json and pictures to `out`.

    Returns whether every required check holds. Raises ValueError where run or shards are missing or do not fit each other.
    """
    architecture = read_architecture(run_dir)
    (fold,) = open_folds(DatasetConfig(leaks="report"), architecture.data)
    shards = {"train": fold.train.shards, "test": fold.test.shards}
    metrics = read_metrics(run_dir)
    trained, untrained = load_trained(run_dir), architecture.build(seed)
    out.mkdir(parents=True, exist_ok=True)
    with Loader(shards["test"], architecture.data, preset="eval", batch_size=BATCH_SIZE) as loader:
        diagnosis = {name: diagnose(net, loader) for name, net in (("untrained", untrained), ("trained", trained))}
        dropped = dict(loader.dropped)
    drawn = first_clips(shards["test"], architecture.data, DRAWN_CLIPS)
    save(reconstructions(trained, drawn, architecture.data), out / "reconstructions.png")
    correct = compare(
        trained,
        architecture,
        shards,
        backbone=backbone,
        svm=SvmConfig(),
        supervised=SupervisedConfig(epochs=supervised_epochs, batch_size=min(SUPERVISED_BATCH, len(shards["train"]))),
        seed=seed,
    )
    checks = [*_training_checks(metrics), *_net_checks(diagnosis), _gain_check(correct)]
    contact_sheet(shards["test"], out / "contact-sheet.png")
    save(curves(metrics), out / "loss-curves.png")
    charts.accuracies(accuracies(correct), out / "accuracy.png")
    summary = _summary(run_dir, shards, dropped, backbone, correct, checks, metrics[-1])
    (out / "report.md").write_text(summary + "".join(f"\n## {title}\n\n![{title}]({name})\n" for name, title in PICTURES.items()))
    facts = {
        "accuracy": accuracies(correct),
        "diagnosis": diagnosis,
        "checks": checks,
        "dropped": dropped,
        "versions": environment(),
    }
    (out / "report.json").write_text(json.dumps(facts, indent=2, default=asdict) + "\n")
    print(summary)
    return all(check.holds for check in checks if check.required)


def _training_checks(metrics: list[dict]) -> list[Check]:
    first, last = metrics[0], metrics[-1]
    if "recon" not in last:
        return []
    sentence = f"reconstruction loss in training fell from {first['recon']:.3f} to {last['recon']:.3f}"
    return [Check(sentence, last["recon"] < first["recon"], required=True)]


def _net_checks(diagnosis: dict[str, dict[str, float]]) -> list[Check]:
    trained, untrained = diagnosis["trained"], diagnosis["untrained"]
    checks = []
    for modality in MODALITIES:
        ours, means = trained[f"recon_error_{modality}"], trained[f"patch_mean_error_{modality}"]
        sentence = f"{modality}: error of masked patches {ours:.3f}, below the {means:.3f} of predicting each patch's mean"
        checks.append(Check(sentence, ours < means, required=True))
        std, base = trained[f"feature_std_{modality}"], untrained[f"feature_std_{modality}"]
        sentence = f"{modality}: features have deviation {std:.3f} over clips, more than a third of the untrained net's {base:.3f}"
        checks.append(Check(sentence, std > base * COLLAPSED, required=True))
    return checks


def _gain_check(correct) -> Check:
    cells = accuracies(correct)
    ours, theirs = cells[TRAINED]["both"], cells[UNTRAINED]["both"]
    sentence = "trained beats untrained on audio and video together, with 95 % intervals that do not overlap"
    return Check(sentence, ours.low > theirs.high, required=False)


def _summary(
    run_dir: Path, shards: dict[str, ShardSet], dropped: dict[str, str], backbone: str, correct, checks: list[Check], last: dict
) -> str:
    data = "; ".join(
        f"{facts['samples']} {split} clips of {facts['name']}, shards {facts['shards_sha256'][:12]}"
        for split, facts in ((split, identity(shard_set)) for split, shard_set in shards.items())
    )
    entropies = [f"{modality} {last[name]:.2f}" for modality in MODALITIES if (name := f"teacher_entropy_{modality}") in last]
    return "\n".join(
        [
            f"# {run_dir}: {last['step']} steps, {backbone} encoders",
            f"\nAccuracy in per cent on {len(shards['test']) - len(dropped)} test clips [95 % bootstrap interval over clips].\n",
            markdown(accuracies(correct)),
            "Differences on the same clips, in points [95 % paired bootstrap interval].\n",
            markdown(differences(correct, TRAINED), signed=True),
            *(f"- {'yes' if check.holds else 'NO'}: {check.sentence}" for check in checks),
            f"- entropy of the teachers' outputs in nats: {', '.join(entropies) or 'not computed in this run'}",
            *([f"- test clips left out, for they are damaged: {', '.join(dropped)}"] if dropped else []),
            f"- {data}\n",
        ]
    )
