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


def oracle(clip, drop, pred, norm_pix_loss):
    target = patch_gather(clip.double(), drop, PATCH).numpy()
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
