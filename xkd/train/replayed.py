"""What doing a step again has found: its clips, their losses, and whether its loss is the one that was logged."""

import math
from dataclasses import dataclass

from torch import Tensor

from xkd.pipelines.loader import Batch
from xkd.train.config import PretrainConfig
from xkd.train.engine import precision_of

# By precision, how far the loss may lie from the logged one, relative to it (docs/training.md has both measured).
ALLOWED = {"fp32": 1e-5, "autocast": 2e-2, "bf16": 2e-2}


@dataclass(frozen=True)
class Replay:
    """What a step was made of, and what it found."""

    config: PretrainConfig
    step: int  # steps done after it, as in metrics.jsonl
    epoch: int  # that it belongs to, counted from 0
    begun: int  # steps done in the state that it was reached from
    ranks: int  # of the run when it saved that state
    batch: Batch  # the whole global batch
    hidden: dict[str, Tensor]  # by modality, shaped like the global views: True where the student does not see
    losses: dict[str, list[float]]  # of each clip: `loss`, but for alignment, and its terms; empty where alignment is all
    numbers: dict[str, float]  # of the step, as a run logs them
    logged: float | None  # the loss that the run has logged, NaN where it was not finite; None: none for this step

    @property
    def difference(self) -> float | None:
        """How far the loss lies from the logged one, relative to it; 0 where neither is finite."""
        loss = self.numbers["loss"]
        if self.logged is None:
            return None
        if math.isnan(self.logged) or not math.isfinite(loss):
            return 0.0 if math.isnan(self.logged) and not math.isfinite(loss) else math.inf
        return abs(loss - self.logged) / max(abs(self.logged), 1e-12)

    @property
    def agrees(self) -> bool:
        """Whether the loss is the logged one, as exactly as the precision has it, or none was logged."""
        return self.difference is None or self.difference <= ALLOWED[precision_of(self.config)]

    def facts(self) -> dict:
        """All but the views, as json can hold it; null stands for what is not finite."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "begun_after": self.begun,
            "difference": _finite(self.difference),
            "logged": _finite(self.logged),
            **{name: _finite(value) for name, value in self.numbers.items()},
            "clips": self._clips(),
        }

    def _clips(self) -> list[dict]:
        """A row a clip, in the order of the global batch; `rank` is that of the run."""
        batch, a_rank = self.batch, len(self.batch.keys) // self.ranks
        columns = {
            "key": batch.keys,
            "sample_id": batch.sample_ids.tolist(),
            "label": batch.labels.tolist(),
            "substituted": batch.substituted.tolist(),
            **{name: map(_finite, values) for name, values in self.losses.items()},
        }
        rows = zip(*columns.values(), strict=True)
        return [{"row": row, "rank": row // a_rank, **dict(zip(columns, values, strict=True))} for row, values in enumerate(rows)]

    def worst(self, count: int) -> list[int]:
        """The rows of the clips with the largest losses, these first."""
        losses = self.losses.get("loss", [0.0] * len(self.batch.keys))
        return sorted(range(len(losses)), key=lambda row: (math.isfinite(losses[row]), -losses[row]))[:count]

    def titles(self) -> list[str]:
        """What to call each clip in a picture."""
        return [
            f"row {clip['row']} (rank {clip['rank']})   {clip['key']}   "
            + "  ".join(f"{name} {values[clip['row']]:.4g}" for name, values in self.losses.items())
            for clip in self._clips()
        ]

    def told(self) -> str:
        """The outcome in words."""
        again, loss = self.step - 1 - self.begun, self.numbers["loss"]
        lines = [f"step {self.step}, of epoch {self.epoch}: {again} steps before it done again, from step {self.begun} on"]
        if self.difference is None:
            lines.append(f"loss {loss!r}; none was logged for this step")
        elif self.difference == 0:
            lines.append(f"loss {loss!r}, as logged, to the bit")
        else:
            lines.append(f"loss {loss!r}, logged {self.logged!r}: {self.difference:.2g} of it apart")
        terms = {name: values for name, values in self.losses.items() if name != "loss"}
        lines += [f"  {name} {self.numbers[name]:.6g}, of its clips {sum(of) / len(of):.6g}" for name, of in terms.items()]
        return "\n".join(lines)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
