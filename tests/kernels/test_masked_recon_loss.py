"""Reconstruction error against a float64 oracle, its gradient, and what the target does not depend on."""

import numpy as np
import pytest
import torch

from xkd.kernels.masked_recon_loss import masked_recon_loss
from xkd.kernels.patch_gather import patch_gather

PATCH = (2, 3, 2)


@pytest.fixture
def case():
    torch.manual_seed(0)
    clip = torch.randn(3, 3, 4, 6, 4) * 2 + 1
    drop = torch.stack([torch.randperm(8)[:5] for _ in range(3)])
    return clip, drop, torch.randn(3, 5, 36)


def oracle(clip, drop, pred, norm_pix_loss, mean=None, std=None):
    levels = {} if mean is None else {"mean": mean.double(), "std": std.double()}
    target = patch_gather(clip.double(), drop, PATCH, **levels).numpy()
    if norm_pix_loss:
        target = (target - target.mean(-1, keepdims=True)) / np.sqrt(target.var(-1, ddof=1, keepdims=True) + 1e-6)
    return ((pred.double().numpy() - target) ** 2).mean()


@pytest.mark.parametrize("norm_pix_loss", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_the_loss_is_the_oracles(case, dtype, tolerance, norm_pix_loss):
    clip, drop, pred = (x if x.dtype == torch.int64 else x.to(dtype) for x in case)
    loss = masked_recon_loss(clip, drop, pred, PATCH, norm_pix_loss)
    assert loss.item() == pytest.approx(oracle(clip, drop, pred, norm_pix_loss), rel=tolerance)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_gradient_is_that_of_finite_differences(case, norm_pix_loss):
    clip, drop, pred = case
    pred = pred.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: 3 * masked_recon_loss(clip.double(), drop, p, PATCH, norm_pix_loss), pred)


def test_no_gradient_reaches_the_clip(case):
    clip, drop, pred = case
    clip.requires_grad_()
    masked_recon_loss(clip, drop, pred.requires_grad_(), PATCH).backward()
    assert clip.grad is None


def test_the_standardised_target_ignores_brightness_and_contrast(case):
    clip, drop, pred = (x.double() if x.is_floating_point() else x for x in case)
    loss, changed = (masked_recon_loss(c, drop, pred, PATCH) for c in (clip, 5 * clip - 2))
    assert changed.item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
@pytest.mark.parametrize("clip_dtype", [torch.uint8, torch.float32])
def test_a_clip_may_be_raw_and_is_normalised_by_channel_first(case, clip_dtype, norm_pix_loss):
    clip, drop, pred = case
    clip, levels = (20 * clip + 100).to(clip_dtype), (torch.tensor([90.0, 100.0, 110.0]), torch.tensor([30.0, 20.0, 40.0]))
    loss = masked_recon_loss(clip, drop, pred, PATCH, norm_pix_loss, mean=levels[0], std=levels[1])
    assert loss.item() == pytest.approx(oracle(clip, drop, pred, norm_pix_loss, *levels), rel=1e-6)


def test_bad_arguments_are_refused(case):
    clip, drop, pred = case
    for arguments, message in [
        ((clip, drop, pred[..., :35], PATCH), r"pred \(3, 5, 35\): needs \[B, M, P\] = \(3, 5, 36\)"),
        ((clip, drop, pred[:, :4], PATCH), r"pred \(3, 4, 36\): needs"),
        ((clip, drop, pred.long(), PATCH), r"pred is torch.int64: needs floating point"),
        ((clip, drop, pred.to("meta"), PATCH), "one device, not clip on cpu, pred on meta"),
        ((clip, drop[:, :0], pred[:, :0], PATCH), r"nothing is masked: drop \(3, 0\)"),
        ((clip[:0], drop[:0], pred[:0], PATCH), r"nothing is masked: drop \(0, 5\)"),
        ((clip, drop, pred, (2, 3, 3)), "cannot be cut into patches"),
        ((clip[:, :1], drop, pred[..., :1], (1, 1, 1)), "a patch of 1 value has no variance"),
    ]:
        with pytest.raises(ValueError, match=f"masked_recon_loss: .*{message}"):
            masked_recon_loss(*arguments)
