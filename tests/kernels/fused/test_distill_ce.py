"""distill_ce in Triton."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tests.kernels.oracle import assert_near
from xkd.kernels.distill_ce import distill_ce, reference

SHAPES = [  # V, U, B, D: several views, D no power of two, and rows of more than one chunk
    (1, 1, 1, 2),
    (3, 2, 3, 33),
    (1, 2, 2, 9000),
    (3, 1, 1, 5000),
]
FULL_SIZE = [(1, 2, 64, 8192), (2, 4, 64, 8192), (1, 2, 3, 65536)]
TEMPERATURES = (0.07, 0.1)


def inputs(shape, dtype, device):
    teacher_views, student_views, batch, dim = shape
    torch.manual_seed(0)
    teacher = torch.randn(teacher_views, batch, dim).to(device, dtype)
    student = torch.randn(student_views, batch, dim).to(device, dtype).requires_grad_()
    return teacher, torch.randn(dim).to(device), student


def run(function, teacher, center, student):
    loss = function(teacher, center, student, *TEMPERATURES)
    return loss, torch.autograd.grad(3 * loss, student)[0]


def check(shape, dtype, device):
    teacher, center, student = inputs(shape, dtype, device)
    oracle = run(reference, teacher.double(), center.double(), student.detach().double().requires_grad_())
    floor = run(reference, teacher, center, student)
    for actual, expected, torch_result in zip(run(distill_ce, teacher, center, student), oracle, floor, strict=True):
        assert actual.dtype == torch_result.dtype
        assert_near(actual, expected, floor=torch_result)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_gradient_are_those_of_float64(shape, dtype, device):
    check(shape, dtype, device)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", FULL_SIZE, ids=str)
def test_loss_and_gradient_are_those_of_float64_at_full_size(shape, dtype, device):
    check(shape, dtype, device)


def test_teacher_and_student_may_differ_in_precision(device):
    teacher, center, student = inputs((1, 2, 3, 33), torch.float32, device)
    teacher = teacher.bfloat16()
    loss, grad = run(distill_ce, teacher, center, student)
    expected, expected_grad = run(reference, teacher.double(), center.double(), student.detach().double().requires_grad_())
    assert_near(loss, expected)
    assert_near(grad, expected_grad)


def test_a_strided_student_gets_the_gradient_of_a_contiguous_one(device):
    teacher, center, student = inputs((1, 2, 3, 33), torch.float32, device)
    strided = student.detach().transpose(0, 2).contiguous().transpose(0, 2).requires_grad_()
    assert not strided.is_contiguous()
    for actual, expected in zip(run(distill_ce, teacher, center, strided), run(distill_ce, teacher, center, student), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("where", ["teacher", "student"])
def test_nan_reaches_the_loss_and_only_its_own_rows_of_the_gradient(where, device):
    teacher, center, student = inputs((1, 2, 3, 33), torch.float32, device)
    with torch.no_grad():
        (teacher if where == "teacher" else student)[0, 1, 5] = torch.nan
    loss, grad = run(distill_ce, teacher, center, student)
    assert loss.isnan()
    poisoned = [[0, 1], [1, 1]] if where == "teacher" else [[0, 1]]
    assert grad.isnan().all(-1).nonzero().tolist() == poisoned
    assert grad.isnan().any(-1).nonzero().tolist() == poisoned


def test_an_outlier_of_the_logits_takes_all_the_probability(device):
    teacher, center, student = inputs((1, 1, 2, 33), torch.float32, device)
    with torch.no_grad():
        teacher[..., 3], student[..., 3] = 1e4, 1e4
    loss, grad = run(distill_ce, teacher, center, student)
    assert loss.item() == 0
    assert not grad.any()


def test_neither_teacher_nor_center_receives_a_gradient(device):
    teacher, center, student = inputs((1, 2, 3, 33), torch.float32, device)
    distill_ce(teacher.requires_grad_(), center.requires_grad_(), student, *TEMPERATURES).backward()
    assert teacher.grad is None
    assert center.grad is None
    assert student.grad.any()


@pytest.mark.parametrize(("views", "dim"), [(65, 2), (1, 65537)])
def test_more_than_the_kernels_hold_is_refused(views, dim, device):
    with pytest.raises(ValueError, match=r"at most 64 of 65536.*XKD_KERNELS=torch"):
        distill_ce(*inputs((views, 1, 1, dim), torch.float32, device), *TEMPERATURES)


def test_float64_is_refused(device):
    with pytest.raises(ValueError, match=r"distill_ce: .*no float64"):
        distill_ce(*inputs((1, 1, 1, 2), torch.float64, device), *TEMPERATURES)


def test_the_op_is_well_registered(device):
    temperature = torch.tensor(0.07, device=device)
    torch.library.opcheck(torch.ops.xkd.distill_ce, (*inputs((1, 2, 3, 33), torch.float32, device), temperature, 0.1))


def test_the_teachers_temperature_may_be_a_tensor(device):
    tensors = inputs((1, 2, 3, 33), torch.float32, device)
    expected = distill_ce(*tensors, *TEMPERATURES)
    assert torch.equal(distill_ce(*tensors, torch.tensor(TEMPERATURES[0], device=device), TEMPERATURES[1]), expected)
    with pytest.raises(ValueError, match=r"teacher_temperature of shape \(1,\): needs one number"):
        distill_ce(*tensors, torch.ones(1, device=device), 0.1)


def test_a_temperature_that_changes_with_every_step_compiles_nothing_anew(device):
    tensors, graphs = inputs((1, 2, 3, 33), torch.float32, device), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(distill_ce, fullgraph=True, backend=graphs)
    for temperature in (0.07, 0.08, 0.09, 0.1):
        assert torch.equal(compiled(*tensors, temperature, 0.1), distill_ce(*tensors, temperature, 0.1))
    assert graphs.frame_count == 2  # one for the first number, and one for any


def test_a_compiled_graph_gives_the_same(device):
    tensors = inputs((1, 2, 3, 33), torch.float32, device)
    compiled = torch.compile(distill_ce, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(run(compiled, *tensors), run(distill_ce, *tensors), strict=True):
        assert torch.equal(actual, expected)
