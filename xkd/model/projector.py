"""The projector: the head whose outputs are distilled and aligned.

Shapes: D inputs, K outputs (prototypes).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xkd.kernels.precision import at_least_float32
from xkd.model.config import ProjectorConfig


class Projector(nn.Module):
    """MLP with LayerNorm and GELU, l2-normalised bottleneck, weight-normed linear layer, LayerNorm without affine:

        z = mlp(x) / |mlp(x)|,    y = LayerNorm(W z),    W_k = g_k v_k / |v_k| with the gains g fixed to 1

    Its input may have another precision than its weights. From the normalisation on it runs in float32 at least, save the product
    itself under autocast.
    """

    def __init__(self, in_dim: int, config: ProjectorConfig):
        super().__init__()
        widths = [in_dim, *[config.hidden_dim] * (config.num_layers - 1), config.bottleneck_dim]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        num_norms = 1 if config.shared_norm else config.num_layers - 1
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden_dim) for _ in range(num_norms))
        self.directions = nn.Parameter(torch.empty(config.out_dim, config.bottleneck_dim))
        self.gains = nn.Parameter(torch.ones(config.out_dim, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        x = x.to(last.weight.dtype)
        for index, layer in enumerate(hidden):
            x = F.gelu(self.norms[index % len(self.norms)](layer(x)))
        z = F.normalize(at_least_float32(last(x)), dim=-1)
        weight = self.gains * F.normalize(at_least_float32(self.directions), dim=-1)
        y = at_least_float32(F.linear(z, weight))
        return F.layer_norm(y, y.shape[-1:])
