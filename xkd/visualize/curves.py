"""Training curves from the rows of metrics.jsonl."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

PANELS = {  # title of a panel: metrics drawn in it
    "loss": ("loss",),
    "masked reconstruction": ("recon_video", "recon_audio"),
    "distillation": ("v2a", "a2v"),
    "alignment": ("align_student", "align_teacher"),
    "teacher entropy [nat]": ("teacher_entropy_video", "teacher_entropy_audio"),
    "deviation of features over clips": ("feature_std_video", "feature_std_audio"),
    "learning rate": ("lr",),
    "clips per second": ("clips_per_second",),
    "k-NN accuracy of the teachers": ("probe/knn_video", "probe/knn_audio", "probe/knn_both"),
}


def curves(metrics: Sequence[Mapping[str, float]]) -> Figure:
    """The metrics over steps; a panel whose metrics were not recorded is left out."""
    recorded = {name for row in metrics for name, value in row.items() if value is not None}  # null: it was not finite
    panels = {title: [name for name in names if name in recorded] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            steps, values = zip(*((row["step"], row[name]) for row in metrics if row.get(name) is not None), strict=True)
            axis.plot(steps, values, label=name, linewidth=1.2, marker="." if len(steps) < 10 else None)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend(fontsize=8)
    for axis in list(axes)[len(panels) :]:
        axis.set_axis_off()
    return figure


def read_metrics(run_dir: Path) -> list[dict]:
    """The rows of a run's metrics that have a loss. ValueError where there are none."""
    path = run_dir / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    rows = [line for line in lines if "loss" in line]  # a probe before the first step has none
    if not rows:
        raise ValueError(f"{path}: holds no training metrics: let `xkd train` take at least train.log_every steps")
    return rows
