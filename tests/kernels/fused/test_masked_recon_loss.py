"""masked_recon_loss in Triton."""

import math

import pytest
import torch

from tests.kernels.oracle import assert_near
from xkd.kernels.masked_recon_loss import masked_recon_loss, reference

SHAPES = [  # B, C, (T, H, W), patch, M: several patches to a program and one, no power of two, a spectrogram
    (1, 1, (1, 8, 16), (1, 4, 8), 1),
    (2, 1, (1, 12, 20), (1, 4, 4), 11),
    (3, 3, (4, 6, 4), (2, 3, 2), 5),
    (1, 3, (4, 16, 32), (4, 16, 16), 2),
    (1, 2, (2, 66, 40), (2, 33, 20), 3),
]
FULL_SIZE = [(64, 3, (32, 112, 112), (4, 16, 16), 333), (64, 1, (1, 80, 448), (1, 4, 16), 448), (3, 3, (6, 15, 27), (2, 5, 9), 22)]
CLIPS = [torch.uint8, torch.float32, torch.bfloat16, torch.float16]
MIDDLE = SHAPES[2]


def inputs(shape, clip_dtype, dtype, device):
    batch, channels, sides, patch, masked = shape
    torch.manual_seed(0)
    clip = torch.randint(256, (batch, channels, *sides)) if clip_dtype == torch.uint8 else torch.randn(batch, channels, *sides) + 1
    num_tokens = math.prod(sides) // math.prod(patch)
    drop = torch.rand(batch, num_tokens).argsort(1)[:, :masked]
    pred = torch.randn(batch, masked, channels * math.prod(patch))
    return clip.to(device, clip_dtype), drop.to(device), pred.to(device, dtype).requires_grad_(), patch


def levels(clip):
    """Means and deviations of about the clip's own."""
    unit, channel = 60 if clip.dtype == torch.uint8 else 1, torch.arange(clip.shape[1], device=clip.device).float()
    return unit * (1 + channel / 7), unit * (1 - channel / 9)


def run(function, *args, **kwargs):
    loss = function(*args, **kwargs)
    (pred,) = (each for each in args if isinstance(each, torch.Tensor) and each.requires_grad)
    return loss, torch.autograd.grad(3 * loss, pred)[0]


def check(shape, clip_dtype, dtype, device, norm_pix_loss, normalise):
    clip, drop, pred, patch = inputs(shape, clip_dtype, dtype, device)
    mean, std = levels(clip) if normalise else (None, None)
    precise = (each.double() for each in (mean, std)) if normalise else (None, None)
    oracle = run(reference, clip.double(), drop, pred.detach().double().requires_grad_(), *precise, patch, norm_pix_loss)
    floor = run(reference, clip, drop, pred, mean, std, patch, norm_pix_loss)
    found = run(masked_recon_loss, clip, drop, pred, patch, norm_pix_loss, mean=mean, std=std)
    for actual, expected, torch_result in zip(found, oracle, floor, strict=True):
        assert actual.dtype == torch_result.dtype
        assert_near(actual, expected, floor=torch_result)


@pytest.mark.parametrize("norm_pix_loss", [True, False], ids=["standardised", "raw"])
@pytest.mark.parametrize("normalise", [True, False], ids=["normalised", "as it is"])
@pytest.mark.parametrize("clip_dtype", CLIPS, ids=str)
def test_loss_and_gradient_are_those_of_float64(clip_dtype, normalise, norm_pix_loss, device):
    check(MIDDLE, clip_dtype, torch.float32, device, norm_pix_loss, normalise)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_gradient_are_those_of_float64_whatever_the_shape(shape, dtype, device):
    check(shape, torch.float32, dtype, device, norm_pix_loss=True, normalise=False)


@pytest.mark.gpu
@pytest.mark.parametrize("clip_dtype", CLIPS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", FULL_SIZE, ids=str)
def test_loss_and_gradient_are_those_of_float64_at_full_size(shape, dtype, clip_dtype, device):
    check(shape, clip_dtype, dtype, device, norm_pix_loss=True, normalise=clip_dtype == torch.uint8)


def test_strided_inputs_give_the_result_of_contiguous_ones(device):
    clip, drop, pred, patch = inputs(MIDDLE, torch.float32, torch.float32, device)
    strided = [each.detach().transpose(0, -1).contiguous().transpose(0, -1) for each in (clip, drop, pred)]
    assert not any(each.is_contiguous() for each in strided)
    found = run(masked_recon_loss, *strided[:2], strided[2].requires_grad_(), patch)
    for actual, expected in zip(found, run(masked_recon_loss, clip, drop, pred, patch), strict=True):
        assert torch.equal(actual, expected)


def test_a_constant_patch_has_the_target_zero(device):
    clip, drop, pred, patch = inputs(MIDDLE, torch.float32, torch.float32, device)
    loss = masked_recon_loss(torch.full_like(clip, 0.75), drop, pred, patch)
    assert loss.item() == pytest.approx(pred.double().square().mean().item())


def test_nan_in_a_prediction_reaches_the_loss_and_its_own_gradient_only(device):
    clip, drop, pred, patch = inputs(MIDDLE, torch.float32, torch.float32, device)
    with torch.no_grad():
        pred[1, 2, 3] = torch.nan
    loss, grad = run(masked_recon_loss, clip, drop, pred, patch)
    assert loss.isnan()
    assert grad.isnan().nonzero().tolist() == [[1, 2, 3]]


def test_nan_in_a_clip_reaches_the_loss_and_the_gradient_of_its_token(device):
    clip, drop, pred, patch = inputs(MIDDLE, torch.float32, torch.float32, device)
    clip[1, 0, 0, 0, 0] = torch.nan
    drop = torch.arange(5, device=device).expand(3, 5)
    loss, grad = run(masked_recon_loss, clip, drop, pred, patch)
    assert loss.isnan()
    assert grad.isnan().all(-1).nonzero().tolist() == [[1, 0]]
    assert grad.isnan().any(-1).nonzero().tolist() == [[1, 0]]


def test_no_gradient_reaches_the_clip(device):
    clip, drop, pred, patch = inputs(MIDDLE, torch.float32, torch.float32, device)
    masked_recon_loss(clip.requires_grad_(), drop, pred, patch).backward()
    assert clip.grad is None
    assert pred.grad.any()


def test_a_patch_beyond_the_registers_is_refused(device):
    shape = (1, 1, (1, 128, 256), (1, 128, 256), 1)
    with pytest.raises(ValueError, match=r"32768 x 1 values is too large.*XKD_KERNELS=torch"):
        masked_recon_loss(*inputs(shape, torch.uint8, torch.float32, device))


@pytest.mark.parametrize("wide", ["clip", "pred"])
def test_float64_is_refused(wide, device):
    clip, drop, pred, patch = inputs(MIDDLE, torch.float32, torch.float32, device)
    with pytest.raises(ValueError, match=r"masked_recon_loss: .*no float64"):
        masked_recon_loss(clip.double() if wide == "clip" else clip, drop, pred.double() if wide == "pred" else pred, patch)


@pytest.mark.parametrize("normalise", [True, False], ids=["normalised", "as it is"])
def test_the_op_is_well_registered(normalise, device):
    clip, drop, pred, patch = inputs(MIDDLE, torch.uint8, torch.float32, device)
    mean, std = levels(clip) if normalise else (None, None)
    torch.library.opcheck(torch.ops.xkd.masked_recon_loss, (clip, drop, pred, mean, std, patch, True))


def test_a_compiled_graph_gives_the_same(device):
    args = inputs(MIDDLE, torch.float32, torch.float32, device)
    compiled = torch.compile(masked_recon_loss, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(run(compiled, *args), run(masked_recon_loss, *args), strict=True):
        assert torch.equal(actual, expected)
