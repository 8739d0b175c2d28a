"""Cross-entropy between a centred, sharpened teacher and a student over all pairs of their views.

Shapes: V teacher views, U student views, B samples, D prototypes.
"""

import torch
from torch import Tensor

from xkd.kernels.precision import at_least_float32


def distill_ce(
    teacher_VBD: Tensor, center_D: Tensor, student_UBD: Tensor, teacher_temperature: float, student_temperature: float
) -> Tensor:
    """mean over v, u, b of - p[v, b] . log q[u, b], in float32 at least; the gradient goes to the student only:

        p = softmax((teacher - center) / teacher_temperature),    log q = log_softmax(student / student_temperature)

    The cross-entropy is linear in p, so the teacher's views are averaged first and no pair is formed.
    """
    target_BD = teacher_probabilities(teacher_VBD, center_D, teacher_temperature).mean(0)
    log_q_UBD = (at_least_float32(student_UBD) / student_temperature).log_softmax(-1)
    return -(target_BD * log_q_UBD).sum(-1).mean()


@torch.no_grad()
def teacher_probabilities(teacher: Tensor, center_D: Tensor, temperature: float) -> Tensor:
    """softmax((teacher - center) / temperature) over the last dimension, without gradient, in float32 at least."""
    return ((at_least_float32(teacher) - center_D) / temperature).softmax(-1)
