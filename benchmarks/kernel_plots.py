"""A picture of the kernels' times: one panel for each case, microseconds over batch size, a line for each provider."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from xkd.benchmarks.results import Row

COLUMNS = 4


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draws forward and backward together where there is a backward; the bars reach from the 20th to the 80th percentile."""
    panels = {}
    for row in rows:
        if row["p50_us"]:
            panels.setdefault((row["op"], row["case"]), {}).setdefault(row["part"], []).append(row)
    lines = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 2.8 * lines), layout="constrained")
    axes = list(figure.subplots(lines, COLUMNS, squeeze=False).flat)
    for axis, ((op, case), parts) in zip(axes, panels.items(), strict=False):
        part = "both" if "both" in parts else "forward"
        for provider in dict.fromkeys(row["provider"] for row in parts[part]):
            shown = [row for row in parts[part] if row["provider"] == provider]
            low, middle, high = ([float(row[name]) for row in shown] for name in ("p20_us", "p50_us", "p80_us"))
            errors = [[m - a for m, a in zip(middle, low, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
            axis.errorbar([int(row["batch"]) for row in shown], middle, errors, label=provider, marker=".", linewidth=1.2)
        axis.set(xscale="log", yscale="log", xlabel="samples", ylabel="µs")
        axis.set_title(f"{op}, {case}: {'forward + backward' if part == 'both' else part}", fontsize=9)
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if panels:
        axes[0].legend(fontsize=7)
    figure.savefig(path)
