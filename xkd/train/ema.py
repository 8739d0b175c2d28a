"""Exponential moving averages: parameters that follow others, as teachers follow students."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from xkd.train.zero import Replicated


@torch.no_grad()
def update(pairs: Iterable[tuple[Tensor, Tensor]], momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student for every (teacher, student) pair, in place.

    Computed in the teachers' precision, which should be float32: bfloat16 would round most updates away.
    """
    teachers, students = map(list, zip(*pairs, strict=True))
    students = [student.to(teacher.dtype) for teacher, student in zip(teachers, students, strict=True)]
    torch._foreach_lerp_(teachers, students, 1 - momentum)


class Averages:
    """The averages in float32, one (average, followed) pair of parameters each, shared out over the ranks as the parameters are.

    `pairs` has them by the name of the scheduled value that is their momentum. Where the network's own averaged parameters are
    float32, they are the averages. A network that was cast to bfloat16 has rounded copies of them, written after each update.
    """

    def __init__(self, pairs: Mapping[str, list[tuple[nn.Parameter, nn.Parameter]]], zero: Replicated):
        self._pairs, self._zero = pairs, zero
        averages = {average for of_momentum in pairs.values() for average, _ in of_momentum}
        self._exact = {average: zero.weights(average).float() for average in averages if average.dtype != torch.float32}

    def part(self, param: nn.Parameter) -> Tensor:
        """This rank's part of the average behind a parameter; of one that is no average but fixed, of itself."""
        return self._exact[param] if param in self._exact else self._zero.weights(param)

    def update(self, values: Mapping[str, float]) -> None:
        """One step of every average, with its momentum among the scheduled `values`."""
        for momentum, pairs in self._pairs.items():
            update([(self.part(average), self._followed(followed)) for average, followed in pairs], values[momentum])
        self._round()

    def set(self, param: nn.Parameter, whole: Tensor) -> None:
        """Gives an average, or a parameter that is fixed, the value `whole`, on every rank."""
        part = self._zero.cut(param, whole)
        self.part(param).copy_(part)
        self._zero.weights(param).copy_(part)

    def _followed(self, param: nn.Parameter) -> Tensor:
        """What is fixed is in no optimizer and has no master."""
        return self._zero.masters(param) if param.requires_grad else self._zero.weights(param)

    @torch.no_grad()
    def _round(self) -> None:
        if self._exact:
            torch._foreach_copy_([self._zero.weights(average) for average in self._exact], list(self._exact.values()))
