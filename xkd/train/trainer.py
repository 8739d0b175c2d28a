"""One optimisation step of a task on every rank."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from xkd.pipelines.loader import Batch
from xkd.train import ema, run_directory
from xkd.train.clipping import clip_per_tensor
from xkd.train.distributed import exchange, sum_over_ranks
from xkd.train.engine import Engine
from xkd.train.gradient_norms import GradientNorms
from xkd.train.heartbeat import Progress
from xkd.train.task import Outcome, Task, trained


class Stopped(Exception):
    """Ends a run on all of its ranks at the same step."""


class NonFinite(Stopped):
    """The loss or the gradients of several steps in a row are not finite numbers."""


class Trainer:
    """A task and its engine; `step` is one optimisation step on this rank's clips."""

    def __init__(self, task: Task, open_engine: Callable[..., Engine] = Engine):
        self.task, self.config, self.place, self.model = task, task.config, task.place, task.model
        self.engine = open_engine(self.model, task.param_groups(), self.config, self.place.world_size)
        self.averages = ema.Averages(task.averages(), self.engine.zero)
        named = trained(self.model)
        self._params = list(named.values())
        self._gradient_norms = GradientNorms(list(named), self.engine.device)
        self._on_device = cache(lambda numbers: torch.tensor(numbers, device=self.engine.device))
        self._skipped = self._skipped_in_a_row = 0
        self.progress = Progress()

    def step(self, batch: Batch, step: int, riders: Mapping[str, float] | None = None) -> dict[str, float]:
        """One step: forward and backward of each micro-batch, per-tensor clip, AdamW, then averages and what the task adds.

        Returns the step's numbers and those of `riders`, each averaged over the ranks. A step whose loss or gradients are not
        finite on some rank changes nothing on any, and is counted. Raises NonFinite, on every rank, after
        `train.max_skipped_steps` of them in a row.
        """
        self.progress.enter("forward_backward")
        values = self.task.schedule(step)
        self.task.set_groups(self.engine.param_groups, values)
        own, outcome = self._forward_backward(batch, step, values)
        riders = {"substituted": float(batch.substituted.sum() * self.place.world_size), **(riders or {})}
        self.progress.enter("reduce")
        numbers, means = self._over_ranks(own, outcome, riders)
        zero = self.engine.zero
        max_norms = self._on_device(self.task.max_norms(step))
        norms = clip_per_tensor(zero.gradients(self._params), max_norms, zero.sum_over_parts)
        numbers |= self._gradient_norms(norms)
        applied = math.isfinite(numbers["loss"]) and math.isfinite(numbers["grad_norm"])
        self.progress.enter("optimizer")
        self.engine.step(apply=applied)
        if applied:
            self.averages.update(values)
            self.task.applied(*means)
        self._count(applied, batch, step, own_loss=own[0])
        return {**numbers, **values, "skipped_steps": self._skipped}

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The whole network in float32, by the names of its state: what is trained as exactly as it is known, averages, buffers.

        Every rank must go through all of it. A tensor may be the network's own, not a copy.
        """
        zero = self.engine.zero
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if not isinstance(tensor, nn.Parameter):
                whole = tensor
            else:
                whole = zero.whole(tensor) if tensor.requires_grad else zero.join(tensor, self.averages.part(tensor))
            yield name, whole.detach().float()

    @property
    def counts(self) -> dict[str, int]:
        """What is counted from step to step; json can hold it."""
        return {"applied": self.engine.steps_applied, "skipped": self._skipped, "skipped_in_a_row": self._skipped_in_a_row}

    def set_counts(self, counts: Mapping[str, int]) -> None:
        """Goes on counting from `counts`."""
        self.engine.steps_applied = counts["applied"]
        self._skipped, self._skipped_in_a_row = counts["skipped"], counts["skipped_in_a_row"]

    def _forward_backward(self, batch: Batch, step: int, values: Mapping[str, float]) -> tuple[Tensor, Outcome]:
        """Forward and backward of this rank's micro-batches.

        Returns loss, scalars and means, averaged over them, in one vector, and the last outcome, which tells what lies where.
        """
        size = len(batch.keys) // self.config.train.accumulation
        packed = []
        for start in range(0, size * self.config.train.accumulation, size):
            outcome = self.task.forward(self.engine.forward, batch, slice(start, start + size), step, values)
            self.engine.backward(outcome.loss)
            scalars = torch.stack([outcome.loss.detach().float(), *(scalar.float() for scalar in outcome.scalars.values())])
            packed.append(torch.cat([scalars, *outcome.means]))
        return torch.stack(packed).mean(0), outcome

    def _over_ranks(self, own: Tensor, outcome: Outcome, riders: Mapping[str, float]) -> tuple[dict[str, float], list[Tensor]]:
        """What `_forward_backward` found and `riders`, averaged over the ranks in one all-reduce: numbers by name, and means."""
        packed = torch.cat([own.new_tensor(list(riders.values())), own])
        names = [*riders, "loss", *outcome.scalars]
        numbers, *means = sum_over_ranks(packed).div_(self.place.world_size).split([len(names), *map(len, outcome.means)])
        return dict(zip(names, numbers.tolist(), strict=True)), means

    def _count(self, applied: bool, batch: Batch, step: int, own_loss: Tensor) -> None:
        """Counts skipped steps; at the last that is allowed, leaves its samples in the run directory and raises NonFinite."""
        self._skipped_in_a_row = 0 if applied else self._skipped_in_a_row + 1
        self._skipped += not applied
        if self._skipped_in_a_row < self.config.train.max_skipped_steps:
            return
        ranks = exchange({"rank": self.place.rank, "loss": str(own_loss.item()), "keys": batch.keys})
        if self.place.rank == 0:
            run_directory.write_skipped(self.config.run_dir, step, ranks)
        where = self.config.run_dir / run_directory.SKIPPED
        raise NonFinite(
            f"step {step}: loss or gradients were not finite in {self._skipped_in_a_row} steps in a row; {where} has the samples "
            "of the last: lower optim.lr, or try train.precision=fp32, which tells whether it is the precision"
        )
