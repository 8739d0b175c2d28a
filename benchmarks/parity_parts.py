"""Parity of the parts without a transformer: masks, MMD, distillation, refinement, projector."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from xkd.benchmarks.parity_rows import GRADIENT, LOSS, STORED, Comparison, Golden, Row, close, exact, gradients, relative
from xkd.kernels.decoder_assemble import take_tokens
from xkd.kernels.distill_ce import distill_ce
from xkd.kernels.mmd import GAMMAS, mmd
from xkd.kernels.random_mask import random_mask
from xkd.model.geometry import visible_tokens
from xkd.model.projector import Projector
from xkd.model.refinement import WEIGHTINGS, refined_feature, token_weights
from xkd.release.geometry import projector_config
from xkd.release.keys import fill, head_tensors

DISTILL_SETTINGS = "params_B_D_sviews_tviews_stemp_ttemp_momentum"
ROUNDING_SEED = 0
ROUNDING_MARGIN = 2  # of one drawn rounding error, for another draw


def compare_masks(golden: Golden) -> Comparison:
    return Comparison([row for case in golden.groups(r"(\d+)/noise$") for row in _mask(golden, case)])


def _mask(golden: Golden, case: str) -> Iterator[Row]:
    noise_BN = golden[f"{case}/noise"]
    num_keep = visible_tokens(noise_BN.shape[1], golden[f"{case}/ratio"].item())
    mask = random_mask(0, 0, 0, 0, *noise_BN.shape, num_keep, noise=noise_BN)
    yield exact(f"{case}/ids_keep", mask.keep, golden[f"{case}/ids_keep"])
    yield exact(f"{case}/ids_restore", mask.restore, golden[f"{case}/ids_restore"])
    yield exact(f"{case}/mask", mask.mask, golden[f"{case}/mask"])
    yield exact(f"{case}/x_masked", take_tokens(golden[f"{case}/x"], mask.keep), golden[f"{case}/x_masked"])


def compare_mmd(golden: Golden) -> Comparison:
    """Value and gradients in float32, against the textbook form in float64 of the inputs as stored, and against the file's float64.

    Where the file's float64 is not the textbook's of its stored float16 inputs, these were rounded after they were used. Then the
    file's are compared with a tolerance that says so: what such a rounding does to the textbook's, measured and printed.
    """
    x, y = golden["x"], golden["y"]
    ours = _value_and_gradients(lambda z: mmd(z, len(x)), x.float(), y.float())
    textbook = _value_and_gradients(lambda z: _textbook(z, len(x)), x.double(), y.double())
    rows, rounded = [], None
    for index, (name, tolerance) in enumerate({"val_f64": LOSS, "gx_f64": GRADIENT, "gy_f64": GRADIENT}.items()):
        rows.append(relative(f"{name} of the stored inputs", ours[index], textbook[index], tolerance))
        own, note = relative(name, textbook[index], golden[name], tolerance), ""
        if not own.passed and x.dtype == y.dtype == torch.float16:
            rounded = rounded or _value_and_gradients(lambda z: _textbook(z, len(x)), *_rounded_otherwise(x, y))
            effect = relative(name, rounded[index], textbook[index], tolerance).error
            tolerance += ROUNDING_MARGIN * effect
            note = f"; float64 itself: {own.error:.1e}, rounding x, y to float16: {effect:.1e}"
        rows.append(relative(name, ours[index], golden[name], tolerance, note))
    return Comparison(rows)


def _value_and_gradients(form: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pair = (x.clone().requires_grad_(), y.clone().requires_grad_())
    value = form(torch.cat(pair))
    return value, *torch.autograd.grad(value, pair)


def _textbook(z: Tensor, num_x: int) -> Tensor:
    """The definition from pairwise differences, a row at a time."""
    distances = torch.stack([(z - row).square().sum(1) for row in z])
    kernel = sum(torch.exp(-gamma * distances) for gamma in GAMMAS)
    return kernel[:num_x, :num_x].mean() + kernel[num_x:, num_x:].mean() - 2 * kernel[:num_x, num_x:].mean()


def _rounded_otherwise(*tensors: Tensor) -> list[Tensor]:
    """Inputs that float16 would have rounded to these: moved by up to half a unit in the last place, in float64."""
    generator = torch.Generator().manual_seed(ROUNDING_SEED)
    units = [torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * 2 - 1 for tensor in tensors]
    exponents = [tensor.double().frexp().exponent - 1 for tensor in tensors]
    return [
        tensor.double() + unit * STORED[torch.float16] * exponent.double().exp2()
        for tensor, unit, exponent in zip(tensors, units, exponents, strict=True)
    ]


def compare_distillation(golden: Golden) -> Comparison:
    return Comparison([row for case in golden.groups(r"(\d+)/\d+/student$") for row in _distillation(golden, case)])


def _distillation(golden: Golden, case: str) -> Iterator[Row]:
    batch, dim, student_views, teacher_views, *rest = golden[f"{case}/{DISTILL_SETTINGS}"].tolist()
    student_temperature, teacher_temperature, momentum = rest
    for step in golden.groups(rf"({case}/\d+)/student$"):
        student = golden.real(f"{step}/student").requires_grad_()
        student_UBD = student.view(int(student_views), int(batch), int(dim))
        teacher_VBD = golden.real(f"{step}/teacher").view(int(teacher_views), int(batch), int(dim))
        center_D = golden[f"{step}/center_before"][0]
        loss = distill_ce(teacher_VBD, center_D, student_UBD, teacher_temperature, student_temperature)
        loss.backward()
        yield relative(f"{step}/loss", loss, golden[f"{step}/loss"], LOSS)
        yield relative(f"{step}/grad_student", student.grad, golden[f"{step}/grad_student"], GRADIENT)
        center_D = center_D.lerp(teacher_VBD.mean((0, 1)), 1 - momentum)
        yield relative(f"{step}/center_after", center_D, golden[f"{step}/center_after"][0], LOSS)


def compare_refinement(golden: Golden) -> Comparison:
    """Weights are compared as their mean over heads, features as their mean over tokens: what the network goes on with."""
    rows = []
    for case in golden.groups(r"(\d+)/vattn$"):
        for mode in (mode for mode in WEIGHTINGS if f"{case}/{mode}/cvattn" in golden):
            for own, other in ("va", "av"):
                weights_BN = token_weights(golden[f"{case}/{own}attn"], golden[f"{case}/{other}attn"], mode)
                feature_BD = refined_feature(golden[f"{case}/{own}feat"], weights_BN)
                weights, features = f"{case}/{mode}/c{own}attn", f"{case}/{mode}/{own}feat_aligned"
                rows.append(close(weights, weights_BN, golden[weights].mean(1)))
                rows.append(close(features, feature_BD, golden[features].mean(1)))
    return Comparison(rows)


def compare_head(golden: Golden) -> Comparison:
    state, x = golden.state(), golden.real("x").requires_grad_()
    head = Projector(x.shape[-1], projector_config(state, golden.name))
    tensors = head_tensors(head)
    fill(tensors, state, golden.name)
    y = head(x)
    (y.square() * torch.linspace(-1, 1, y.shape[-1])).sum().backward()
    rows = [close("y", y, golden["y"]), relative("grad_x", x.grad, golden["grad_x"], GRADIENT)]
    return Comparison([*rows, *gradients(golden, tensors)])
