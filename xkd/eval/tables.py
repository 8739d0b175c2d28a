"""Markdown tables of per-clip correctness: accuracies with intervals, and one row's paired differences from every other."""

from collections.abc import Mapping

import numpy as np

from xkd.eval.scores import Estimate, difference, estimate

# {row: {modality: correctness of each test clip}}; every array is over the same clips in the same order.
Correctness = Mapping[str, Mapping[str, np.ndarray]]


def accuracies(correctness: Correctness) -> dict[str, dict[str, Estimate]]:
    """Accuracy of each row and modality, as a fraction."""
    return {row: {modality: estimate(clips) for modality, clips in cells.items()} for row, cells in correctness.items()}


def differences(correctness: Correctness, ours: str) -> dict[str, dict[str, Estimate]]:
    """Accuracy of the row `ours` minus that of each other row, for the modalities that both have, paired by clip."""
    mine = correctness[ours]
    return {
        f"{ours} - {row}": {modality: difference(mine[modality], clips) for modality, clips in cells.items() if modality in mine}
        for row, cells in correctness.items()
        if row != ours
    }


def markdown(rows: Mapping[str, Mapping[str, Estimate]], *, signed: bool = False) -> str:
    """A table in per cent, `mean [low, high]`; without an interval where there is no spread, a dash where there is no value."""
    modalities = list(dict.fromkeys(modality for cells in rows.values() for modality in cells))
    lines = [["", *modalities], ["---"] * (1 + len(modalities))]
    lines += [[row, *(_cell(cells.get(modality), signed) for modality in modalities)] for row, cells in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Estimate | None, signed: bool) -> str:
    if value is None:
        return "-"
    mean, low, high = (f"{100 * number:{'+' if signed else ''}.1f}" for number in (value.mean, value.low, value.high))
    return mean if value.low == value.high else f"{mean} [{low}, {high}]"
