"""The command line with an AdamW that steps 512 elements at a time, as ones written by hand do: a cause for the finder to name.

`python -m xkd.benchmarks.slow_optimizer bench step --explain ...`
"""

import sys

import torch

from xkd.cli import main

PIECE = 512


@torch.no_grad()
def step(optimizer: torch.optim.AdamW, closure=None) -> None:
    """AdamW as in the paper (Loshchilov and Hutter, 2019, algorithm 2), piece by piece."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.grad is None:
                continue
            state = optimizer.state[param]
            if not state:
                state |= {name: torch.zeros_like(param) for name in ("exp_avg", "exp_avg_sq")} | {"step": torch.zeros(())}
            state["step"] += 1
            tensors = (param, param.grad, state["exp_avg"], state["exp_avg_sq"])
            for pieces in zip(*(tensor.view(-1).split(PIECE) for tensor in tensors), strict=True):
                _step_piece(*pieces, group, state["step"].item())


def _step_piece(weights, gradients, mean, square, group: dict, steps: float) -> None:
    beta1, beta2 = group["betas"]
    mean.lerp_(gradients, 1 - beta1)
    square.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
    scale = (square / (1 - beta2**steps)).sqrt_().add_(group["eps"])
    weights.mul_(1 - group["lr"] * group["weight_decay"]).addcdiv_(mean, scale, value=-group["lr"] / (1 - beta1**steps))


if __name__ == "__main__":
    torch.optim.AdamW.step = step
    sys.exit(main(sys.argv[1:]))
