"""Cross-entropy between a centred, sharpened teacher and a student over all pairs of their views.

Shapes: V teacher views, U student views, B samples, D prototypes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from xkd.kernels.choice import check_devices, register, use_triton
from xkd.kernels.precision import at_least_float32

VALUES = 8192  # of the teacher that a program holds in registers, over all its views; a longer row goes by in chunks
MAX_PROTOTYPES = 65536
MAX_TEACHER_VIEWS = 64


@triton.jit
def _forward(
    teacher_ptr,  # [V, B, D]
    center_ptr,  # [D]
    student_ptr,  # [U, B, D]
    teacher_temperature_ptr,  # [] float32
    loss_ptr,  # [U * B] float32
    batch,
    student_sharpness,  # 1 / temperature
    V: tl.constexpr,
    D: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    teacher_sharpness = 1.0 / tl.load(teacher_temperature_ptr)
    tensors, sharpness = (teacher_ptr, center_ptr, student_ptr), (teacher_sharpness, student_sharpness)
    rows = _rows(batch, BLOCK_V)
    teacher_max, teacher_sum, student_max, student_sum = _normalisers(tensors, rows, sharpness, V, D, BLOCK_V, BLOCK_D)
    log_sum = tl.log(student_sum)
    loss = tl.zeros((), tl.float32)
    for start in range(0, D, BLOCK_D):
        teacher, student, inside = _load(tensors, rows, start, V, D, BLOCK_V, BLOCK_D)
        target = _target(teacher, teacher_max, teacher_sum, teacher_sharpness, V, BLOCK_V)
        log_q = (student - student_max) * student_sharpness - log_sum
        loss -= tl.sum(tl.where(inside, target * log_q, 0.0))
    tl.store(loss_ptr + rows[1], loss)


@triton.jit
def _backward(
    grad_ptr,  # [] of the loss
    teacher_ptr,  # [V, B, D]
    center_ptr,  # [D]
    student_ptr,  # [U, B, D]
    teacher_temperature_ptr,  # [] float32
    student_grad_ptr,  # [U, B, D]
    batch,
    scale,  # 1 / (student temperature * U * B)
    student_sharpness,  # 1 / temperature
    V: tl.constexpr,
    D: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    teacher_sharpness = 1.0 / tl.load(teacher_temperature_ptr)
    tensors, sharpness = (teacher_ptr, center_ptr, student_ptr), (teacher_sharpness, student_sharpness)
    rows = _rows(batch, BLOCK_V)
    teacher_max, teacher_sum, student_max, student_sum = _normalisers(tensors, rows, sharpness, V, D, BLOCK_V, BLOCK_D)
    scale *= tl.load(grad_ptr).to(tl.float32)
    for start in range(0, D, BLOCK_D):
        teacher, student, inside = _load(tensors, rows, start, V, D, BLOCK_V, BLOCK_D)
        target = _target(teacher, teacher_max, teacher_sum, teacher_sharpness, V, BLOCK_V)
        q = tl.exp((student - student_max) * student_sharpness) / student_sum
        student_grad = (scale * (q - target)).to(student_grad_ptr.dtype.element_ty)
        tl.store(student_grad_ptr + rows[1] * D + start + tl.arange(0, BLOCK_D), student_grad, mask=inside)


@triton.jit
def _rows(batch, BLOCK_V: tl.constexpr):
    """The teacher's rows [BLOCK_V] and the student's row of a program; the student views that share a sample, in a row."""
    views = tl.num_programs(0) // batch
    sample, view = tl.program_id(0) // views, tl.program_id(0) % views
    return tl.arange(0, BLOCK_V).to(tl.int64) * batch + sample, view.to(tl.int64) * batch + sample


@triton.jit
def _normalisers(tensors, rows, sharpness, V: tl.constexpr, D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr):
    """Maxima of the rows and sums of exp(sharpness * (x - maximum)): [BLOCK_V] each for the teacher, scalars for the student.

    Differences are taken before the temperature divides: where a probability is not small, they are small and nearly exact.
    """
    teacher_max = tl.full((BLOCK_V,), float("-inf"), tl.float32)
    teacher_sum = tl.zeros((BLOCK_V,), tl.float32)
    student_max = tl.full((), float("-inf"), tl.float32)
    student_sum = tl.zeros((), tl.float32)
    for start in range(0, D, BLOCK_D):
        teacher, student, _ = _load(tensors, rows, start, V, D, BLOCK_V, BLOCK_D)
        before = teacher_max
        teacher_max = tl.maximum(before, tl.max(teacher, 1))
        teacher_sum *= tl.exp((before - teacher_max) * sharpness[0])
        teacher_sum += tl.sum(tl.exp((teacher - teacher_max[:, None]) * sharpness[0]), 1)
        student_before = student_max
        student_max = tl.maximum(student_before, tl.max(student, 0))
        student_sum *= tl.exp((student_before - student_max) * sharpness[1])
        student_sum += tl.sum(tl.exp((student - student_max) * sharpness[1]), 0)
    return teacher_max, teacher_sum, student_max, student_sum


@triton.jit
def _load(tensors, rows, start, V: tl.constexpr, D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr):
    """A chunk of the centred teacher [BLOCK_V, BLOCK_D] and of the student [BLOCK_D], and which of it is inside D.

    Outside D both are -inf, of probability 0. Teacher views from V on are 0, and `_target` leaves them out.
    """
    teacher_ptr, center_ptr, student_ptr = tensors
    teacher_rows, student_row = rows
    channels = start + tl.arange(0, BLOCK_D)
    inside = channels < D
    here = (tl.arange(0, BLOCK_V) < V)[:, None] & inside[None, :]
    center = tl.load(center_ptr + channels, mask=inside, other=0.0).to(tl.float32)
    teacher = tl.load(teacher_ptr + teacher_rows[:, None] * D + channels[None, :], mask=here, other=0.0).to(tl.float32)
    teacher = tl.where(inside[None, :], teacher - center[None, :], float("-inf"))
    student = tl.load(student_ptr + student_row * D + channels, mask=inside, other=float("-inf")).to(tl.float32)
    return teacher, student, inside


@triton.jit
def _target(teacher, teacher_max, teacher_sum, sharpness, V: tl.constexpr, BLOCK_V: tl.constexpr):
    """The teacher's probabilities [BLOCK_D], averaged over its views."""
    p = tl.exp((teacher - teacher_max[:, None]) * sharpness) / teacher_sum[:, None]
    return tl.sum(tl.where((tl.arange(0, BLOCK_V) < V)[:, None], p, 0.0), 0) / V


def launch_forward(
    teacher: Tensor, center: Tensor, student: Tensor, teacher_temperature: Tensor, student_temperature: float
) -> Tensor:
    """`distill_ce` in Triton."""
    losses = student.new_empty(student.shape[:2].numel(), dtype=torch.float32)
    _forward[(len(losses),)](
        *(tensor.contiguous() for tensor in (teacher, center, student)),
        teacher_temperature.float(),
        losses,
        student.shape[1],
        1 / student_temperature,
        **_constants(teacher),
    )
    return losses.mean()


def launch_backward(
    grad: Tensor, teacher: Tensor, center: Tensor, student: Tensor, teacher_temperature: Tensor, student_temperature: float
) -> Tensor:
    """Gradient of the student [U, B, D] for the gradient `grad` [] of the loss."""
    student_grad = student.new_empty(student.shape)
    rows = student.shape[:2].numel()
    _backward[(rows,)](
        grad,
        *(tensor.contiguous() for tensor in (teacher, center, student)),
        teacher_temperature.float(),
        student_grad,
        student.shape[1],
        1 / (student_temperature * rows),
        1 / student_temperature,
        **_constants(teacher),
    )
    return student_grad


def _constants(teacher: Tensor) -> dict[str, int]:
    views, _, dim = teacher.shape
    block_v = triton.next_power_of_2(views)
    block_d = min(triton.next_power_of_2(dim), VALUES // block_v)
    return {"V": views, "D": dim, "BLOCK_V": block_v, "BLOCK_D": block_d, "num_warps": max(4, block_v * block_d // 512)}


_op = register("distill_ce", launch_forward)
_backward_op = register("distill_ce_backward", launch_backward)


@_op.register_fake
def _(teacher, center, student, teacher_temperature, student_temperature):
    return student.new_empty((), dtype=torch.float32)


@_backward_op.register_fake
def _(grad, teacher, center, student, teacher_temperature, student_temperature):
    return student.new_empty(student.shape)


def _save_inputs(ctx, inputs, output):
    *tensors, ctx.student_temperature = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, grad):
    student_grad = _backward_op(grad, *ctx.saved_tensors, ctx.student_temperature)
    return None, None, student_grad, None, None


_op.register_autograd(_differentiate, setup_context=_save_inputs)


def distill_ce(
    teacher_VBD: Tensor, center_D: Tensor, student_UBD: Tensor, teacher_temperature: float | Tensor, student_temperature: float
) -> Tensor:
    """mean over v, u, b of - p[v, b] . log q[u, b], in float32 at least; the gradient goes to the student only:

        p = softmax((teacher - center) / teacher_temperature),    log q = log_softmax(student / student_temperature)

    The cross-entropy is linear in p, so the teacher's views are averaged first and no pair is formed. The Triton kernels read each
    row once up to 8,192 prototypes, those of all teacher views counted together, and twice above. The
    teacher's temperature, which may change with every step, may be a tensor without dimensions: a captured CUDA graph reads what it
    then holds, and no graph is compiled anew for it. Raises ValueError where the shapes do not fit, nothing is there to average, or
    the tensors are not on one device.
    """
    _check(teacher_VBD, center_D, student_UBD, teacher_temperature, student_temperature)
    fused = use_triton("distill_ce", teacher_VBD) and use_triton("distill_ce", center_D) and use_triton("distill_ce", student_UBD)
    if not fused:
        return reference(teacher_VBD, center_D, student_UBD, teacher_temperature, student_temperature)
    _check_limits(teacher_VBD)
    if not isinstance(teacher_temperature, Tensor):
        # A product, which torch.compile takes with a number that changes; in torch.full it would be a constant.
        teacher_temperature = torch.ones((), dtype=torch.float32, device=student_UBD.device) * teacher_temperature
    return _op(teacher_VBD, center_D, student_UBD, teacher_temperature, student_temperature)


def reference(
    teacher_VBD: Tensor, center_D: Tensor, student_UBD: Tensor, teacher_temperature: float | Tensor, student_temperature: float
) -> Tensor:
    """`distill_ce` in torch."""
    target_BD = teacher_probabilities(teacher_VBD, center_D, teacher_temperature).mean(0)
    log_q_UBD = (at_least_float32(student_UBD) / student_temperature).log_softmax(-1)
    return -(target_BD * log_q_UBD).sum(-1).mean()


@torch.no_grad()
def teacher_probabilities(teacher: Tensor, center_D: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax((teacher - center) / temperature) over the last dimension, without gradient, in float32 at least."""
    return ((at_least_float32(teacher) - center_D) / temperature).softmax(-1)


def _check(
    teacher: Tensor, center: Tensor, student: Tensor, teacher_temperature: float | Tensor, student_temperature: float
) -> None:
    tensors = {"teacher": teacher, "center": center, "student": student}
    temperatures = {"teacher_temperature": teacher_temperature, "student_temperature": student_temperature}
    held = {name: value for name, value in temperatures.items() if isinstance(value, Tensor)}
    check_devices("distill_ce", **tensors, **held)
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    if teacher.ndim != 3 or student.ndim != 3 or teacher.shape[1:] != student.shape[1:] or center.shape != teacher.shape[2:]:
        raise ValueError(f"distill_ce: {shapes} do not fit: needs [V, B, D], [D], [U, B, D]")
    if not teacher.numel() or not student.numel():
        raise ValueError(f"distill_ce: nothing to average over: {shapes}")
    integers = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
    if integers:
        raise ValueError(f"distill_ce: {integers[0]} is {tensors[integers[0]].dtype}: needs floating point")
    for name, temperature in temperatures.items():
        if name in held and temperature.shape != ():
            raise ValueError(f"distill_ce: {name} of shape {tuple(temperature.shape)}: needs one number")
        if name not in held and not temperature > 0:
            raise ValueError(f"distill_ce: {name} {temperature} is not above 0")


def _check_limits(teacher: Tensor) -> None:
    views, _, dim = teacher.shape
    if views > MAX_TEACHER_VIEWS or dim > MAX_PROTOTYPES:
        raise ValueError(
            f"distill_ce: {views} teacher views of {dim} prototypes: the Triton kernels take at most {MAX_TEACHER_VIEWS} of "
            f"{MAX_PROTOTYPES}: use fewer, or set XKD_KERNELS=torch"
        )
