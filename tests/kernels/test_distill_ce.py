"""Distillation against loops over all pairs of views in float64."""

import pytest
import torch

from xkd.kernels.distill_ce import distill_ce, teacher_probabilities

# teacher views, student views, samples, outputs
SHAPES = [(1, 2, 4, 16), (2, 3, 3, 33), (1, 1, 1, 2)]


def inputs(shape, dtype=torch.float64):
    teacher_views, student_views, samples, outputs = shape
    torch.manual_seed(0)
    teacher = torch.randn(teacher_views, samples, outputs, dtype=dtype)
    student = torch.randn(student_views, samples, outputs, dtype=dtype)
    return teacher, torch.randn(outputs, dtype=dtype), student


def over_all_pairs(teacher, center, student, teacher_temperature, student_temperature):
    values = []
    for t in teacher.double():
        for s in student.double():
            p = torch.softmax((t - center.double()) / teacher_temperature, -1)
            values.append(-(p * torch.log_softmax(s / student_temperature, -1)).sum(-1).mean())
    return sum(values) / len(values)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_the_loss_is_the_mean_over_all_pairs(shape, dtype, tolerance):
    teacher, center, student = (x.to(dtype) for x in inputs(shape))
    found = distill_ce(teacher, center, student, 0.07, 0.1)
    assert found.item() == pytest.approx(over_all_pairs(teacher, center, student, 0.07, 0.1).item(), rel=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_that_of_finite_differences(shape):
    teacher, center, student = inputs(shape)
    assert torch.autograd.gradcheck(lambda s: 3 * distill_ce(teacher, center, s, 0.5, 0.4), student.requires_grad_())


def test_the_teacher_receives_no_gradient():
    teacher, center, student = inputs(SHAPES[0])
    distill_ce(teacher.requires_grad_(), center.requires_grad_(), student.requires_grad_(), 0.1, 0.1).backward()
    assert teacher.grad is None
    assert center.grad is None


def test_a_student_equal_to_the_centred_teacher_pays_its_entropy():
    teacher, center, _ = inputs((1, 1, 4, 16))
    entropy = torch.special.entr(teacher_probabilities(teacher, center, 0.3)).sum(-1).mean()
    assert distill_ce(teacher, center, teacher - center, 0.3, 0.3).item() == pytest.approx(entropy.item())


@pytest.mark.parametrize(
    ("teacher", "center", "student", "message"),
    [
        ((1, 4, 16), (16,), (2, 4, 15), r"teacher \(1, 4, 16\).*student \(2, 4, 15\) do not fit: needs \[V, B, D\]"),
        ((4, 16), (16,), (4, 16), "do not fit"),
        ((1, 4, 16), (1, 16), (2, 4, 16), "do not fit"),
        ((1, 0, 16), (16,), (2, 0, 16), "nothing to average over"),
        ((0, 4, 16), (16,), (2, 4, 16), "nothing to average over"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(teacher, center, student, message):
    with pytest.raises(ValueError, match=f"distill_ce: .*{message}"):
        distill_ce(torch.randn(teacher), torch.randn(center), torch.randn(student), 0.1, 0.1)


def test_integers_devices_and_temperatures_that_do_not_fit_are_refused():
    teacher, center, student = inputs(SHAPES[0], torch.float32)
    with pytest.raises(ValueError, match=r"student is torch\.int64: needs floating point"):
        distill_ce(teacher, center, student.long(), 0.1, 0.1)
    with pytest.raises(ValueError, match="one device, not teacher on cpu, center on meta"):
        distill_ce(teacher, center.to("meta"), student, 0.1, 0.1)
    with pytest.raises(ValueError, match=r"teacher_temperature 0\.0 is not above 0"):
        distill_ce(teacher, center, student, 0.0, 0.1)
