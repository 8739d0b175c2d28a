"""Mean squared error between predicted and real masked patches.

Shapes: B samples, C channels, T frames, H and W pixels, M masked patches, P values a patch.
"""

from torch import Tensor

from xkd.kernels.patch_gather import patch_gather
from xkd.kernels.precision import at_least_float32

VARIANCE_EPSILON = 1e-6


def masked_recon_loss(
    clip_BCTHW: Tensor, drop_BM: Tensor, pred_BMP: Tensor, patch: tuple[int, int, int], norm_pix_loss: bool = True
) -> Tensor:
    """mean over B, M, P of (pred - target)^2, in float32 at least; the gradient goes to `pred_BMP` only.

    target = the patch itself, or with `norm_pix_loss` the patch standardised by its own values:

        (x - mean(x)) / sqrt(var(x) + 1e-6),    var unbiased (divisor P - 1)
    """
    target_BMP = at_least_float32(patch_gather(clip_BCTHW.detach(), drop_BM, patch))
    if norm_pix_loss:
        mean, std = patch_statistics(target_BMP)
        target_BMP = (target_BMP - mean) / std
    return (at_least_float32(pred_BMP) - target_BMP).square().mean()


def patch_statistics(patches_BMP: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sqrt(unbiased variance + 1e-6) of each patch, [B, M, 1] each."""
    # Two passes: torch.var_mean is 30 times slower than this on the CPU.
    mean = patches_BMP.mean(-1, keepdim=True)
    variance = (patches_BMP - mean).square().sum(-1, keepdim=True) / (patches_BMP.shape[-1] - 1)
    return mean, (variance + VARIANCE_EPSILON).sqrt()
