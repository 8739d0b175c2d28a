"""The teachers' exponential moving average of the students."""

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


class Teachers:
    """The averages in float32, one (teacher, student) pair of parameters each, shared out over the ranks as the parameters are.

    Where the network's own teachers are float32, they are the averages. A network that was cast to bfloat16 has rounded copies of
    them, written after each update.
    """

    def __init__(self, pairs: Mapping[str, list[tuple[nn.Parameter, nn.Parameter]]], zero: Replicated):
        self._pairs, self._zero = pairs, zero
        teachers = {teacher for of_modality in pairs.values() for teacher, _ in of_modality}
        self._exact = {teacher: zero.weights(teacher).float() for teacher in teachers if teacher.dtype != torch.float32}

    def average(self, teacher: nn.Parameter) -> Tensor:
        """This rank's part of the average behind a teacher's parameter."""
        return self._exact[teacher] if teacher in self._exact else self._zero.weights(teacher)

    def update(self, momenta: Mapping[str, float]) -> None:
        """One step of every average, with its modality's momentum."""
        for modality, pairs in self._pairs.items():
            update([(self.average(teacher), self._followed(student)) for teacher, student in pairs], momenta[modality])
        self._round()

    def set(self, teacher: nn.Parameter, whole: Tensor) -> None:
        """Gives an average the value `whole`, on every rank."""
        part = self._zero.cut(teacher, whole)
        self.average(teacher).copy_(part)
        self._zero.weights(teacher).copy_(part)

    def _followed(self, student: nn.Parameter) -> Tensor:
        """What is fixed is in no optimizer and has no master."""
        return self._zero.masters(student) if student.requires_grad else self._zero.weights(student)

    @torch.no_grad()
    def _round(self) -> None:
        if self._exact:
            torch._foreach_copy_([self._zero.weights(teacher) for teacher in self._exact], list(self._exact.values()))
