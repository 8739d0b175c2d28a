"""The teachers' moving average."""

import torch

from xkd.train import ema


def pair():
    return torch.full((3,), 1.0), torch.full((3,), 2.0)


def test_momentum_one_keeps_the_teacher_and_zero_copies_the_student():
    teacher, student = pair()
    ema.update([(teacher, student)], 1.0)
    assert teacher.tolist() == [1.0] * 3
    ema.update([(teacher, student)], 0.0)
    assert teacher.tolist() == student.tolist() == [2.0] * 3


def test_the_teacher_moves_by_one_minus_momentum():
    teacher, student = pair()
    ema.update([(teacher, student)], 0.9)
    torch.testing.assert_close(teacher, torch.full((3,), 1.1))
    assert student.tolist() == [2.0] * 3
