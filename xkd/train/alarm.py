"""An alarm for a network that collapses: students that tell no clips apart, teachers that teach nothing."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from xkd.train.log_config import CollapseConfig

OTHER = {"video": "audio", "audio": "video"}


class Symptom(NamedTuple):
    """A statistic of each modality beyond a bound."""

    statistic: str
    side: str
    meaning: str
    remedy: str


SYMPTOMS = {  # by the field of CollapseConfig that bounds it
    "feature_std": Symptom(
        "feature_std",
        "below",
        "the {modality} student gives nearly the same feature to all clips of a batch",
        "a lower optim.lr, more optim.warmup_epochs, or a higher loss.weights.recon",
    ),
    "min_entropy": Symptom(
        "teacher_entropy",
        "below",
        "the {modality} teacher puts nearly everything on one output, and the {other} student learns little more than which",
        "a higher loss.{modality}.teacher_temperature, or a lower loss.{modality}.center_momentum",
    ),
    "max_entropy": Symptom(
        "teacher_entropy",
        "above",
        "the {modality} teacher gives nearly the same to all outputs, and the {other} student learns nothing from it",
        "a lower loss.{modality}.teacher_temperature, lower loss.weights.cmkd and align, or a lower optim.lr",
    ),
}


class CollapseAlarm:
    """Watches the rows of metrics of a run whose heads have `num_outputs` outputs and whose ranks have `clips` clips at once.

    A batch of one clip has no deviation over its clips: it is not watched then.
    """

    def __init__(self, config: CollapseConfig, *, num_outputs: int, clips: int):
        self._config, self._max_entropy = config, math.log(num_outputs)
        self._lines = {(field, modality): 0 for field in SYMPTOMS for modality in OTHER if clips > 1 or field != "feature_std"}

    @property
    def ringing(self) -> int:
        """For how many symptoms it rings: `lines` rows in a row have shown them."""
        return sum(lines >= self._config.lines for lines in self._lines.values())

    def look(self, row: Mapping[str, float]) -> list[str]:
        """Takes in the next row. Returns a warning for each symptom that the alarm begins to ring for with it."""
        warnings = []
        for (field, modality), lines in self._lines.items():
            symptom, bound = SYMPTOMS[field], self._bound(field)
            value = row.get(f"{symptom.statistic}_{modality}", math.nan)  # nan, as a term that is not computed, is no symptom
            shown = value < bound if symptom.side == "below" else value > bound
            self._lines[field, modality] = lines + 1 if shown else 0
            if self._lines[field, modality] == self._config.lines:
                warnings.append(self._warning(field, modality, value))
        return warnings

    def _bound(self, field: str) -> float:
        value = getattr(self._config, field)
        return value if field == "feature_std" else value * self._max_entropy

    def _warning(self, field: str, modality: str, value: float) -> str:
        symptom, bound, words = SYMPTOMS[field], self._bound(field), {"modality": modality, "other": OTHER[modality]}
        return (
            f"collapse alarm: {symptom.statistic}_{modality} is {value:.3g}, {symptom.side} {bound:.3g} (log.collapse.{field}) for "
            f"{self._config.lines} log lines: {symptom.meaning.format(**words)}. Try {symptom.remedy.format(**words)}."
        )
