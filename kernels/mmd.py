"""Maximum mean discrepancy between two sets of features, sound in float32.

Shapes: R = X + Y rows, D dimensions.
"""

import torch
from torch import Tensor

from xkd.kernels.precision import at_least_float32

GAMMAS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
SMALLEST_DISTANCE = 1e-30


def mmd(z_RD: Tensor, num_x: int, gammas: tuple[float, ...] = GAMMAS) -> Tensor:
    """Biased squared MMD between the first `num_x` rows of z and the others:

        mean K(X, X) + mean K(Y, Y) - 2 mean K(X, Y),    K(a, b) = sum over gamma of exp(-gamma |a - b|^2)

    |a|^2 + |b|^2 - 2 a.b loses the small distances in float32 when the rows are long vectors (|a|^2 is about 8192 after the
    projector's LayerNorm). So a detached mean is subtracted first, which changes no distance: the joint mean for K(X, Y), the set's
    own mean within a set (with the joint mean two tight sets far apart would still lose theirs); and the distance of a row to
    itself is set to 0. And the means are those of K - 1 a gamma, which leaves the sum as it is: the value of two nearly equal sets
    would be what rounding leaves of 7 + 7 - 14.

    Runs in float32 at least, autocast off (take the backward outside autocast too, as ever). The products must be IEEE (torch's
    default), not TF32.
    """
    assert 0 < num_x < len(z_RD), f"the first {num_x} of {len(z_RD)} rows"
    with torch.autocast(z_RD.device.type, enabled=False):
        z_RD = at_least_float32(z_RD)
        return _mean_within(z_RD[:num_x], gammas) + _mean_within(z_RD[num_x:], gammas) - 2 * _mean_across(z_RD, num_x, gammas)


def _mean_within(x_XD: Tensor, gammas: tuple[float, ...]) -> Tensor:
    x_XD = x_XD - x_XD.detach().mean(0)
    itself = torch.eye(len(x_XD), dtype=torch.bool, device=x_XD.device)
    return _mean_kernel_less_one(_squared_distances(x_XD, x_XD).masked_fill(itself, 0), gammas)


def _mean_across(z_RD: Tensor, num_x: int, gammas: tuple[float, ...]) -> Tensor:
    z_RD = z_RD - z_RD.detach().mean(0)
    return _mean_kernel_less_one(_squared_distances(z_RD[:num_x], z_RD[num_x:]), gammas)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    distances = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return distances.clamp(min=SMALLEST_DISTANCE)


def _mean_kernel_less_one(distances: Tensor, gammas: tuple[float, ...]) -> Tensor:
    return sum(_exp_less_one(gamma * distances).mean() for gamma in gammas)


def _exp_less_one(x: Tensor) -> Tensor:
    """exp(-x) - 1 for x >= 0. Only expm1 resolves it where x is small, only exp its gradient, exp(-x), where x is large."""
    return torch.where(x < 1, torch.expm1(-x), torch.exp(-x) - 1)
