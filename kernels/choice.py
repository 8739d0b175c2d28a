"""Which implementation of an op runs: its torch reference or its Triton kernels, by XKD_KERNELS=auto|torch|triton."""

import functools
import os
from collections.abc import Callable
from typing import Literal

import torch
import triton
from torch import Tensor
from torch.library import CustomOpDef, custom_op

VARIABLE = "XKD_KERNELS"
CHOICES = ("auto", "torch", "triton")
# Triton reads TRITON_INTERPRET when a kernel is defined; its interpreter runs kernels on the CPU, slowly, to check them.
INTERPRETED = triton.knobs.runtime.interpret
# Where the ops are registered: a call on another device never gets past `use_triton`.
DEVICES = ("cuda", "cpu") if INTERPRETED else ("cuda",)


@torch.compiler.assume_constant_result
def implementation(device_type: str) -> Literal["torch", "triton"]:
    """What runs for tensors on such a device. `auto`, the default, takes Triton on CUDA and torch elsewhere.

    Raises ValueError where XKD_KERNELS is not one of its values, or asks for Triton where it cannot run.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in CHOICES:
        raise ValueError(f"{VARIABLE}: {wanted!r} is not one of {', '.join(CHOICES)}")
    if wanted == "auto":
        return "triton" if device_type == "cuda" else "torch"
    if wanted == "triton" and device_type not in DEVICES:
        raise ValueError(
            f"{VARIABLE}=triton: Triton's kernels cannot run on {device_type} tensors: set it to auto or torch, or train on a GPU "
            "(TRITON_INTERPRET=1 runs them on the CPU, thousands of times slower, to check them)"
        )
    return wanted


def use_triton(op: str, tensor: Tensor) -> bool:
    """Whether `op` on this tensor runs in Triton.

    The kernels accumulate in float32, so float64, which only oracles use, stays with torch: by rule under auto; where Triton was
    asked for, it is a ValueError.
    """
    if implementation(tensor.device.type) == "torch":
        return False
    if tensor.dtype != torch.float64:
        return True
    if os.environ.get(VARIABLE) == "triton":
        raise ValueError(f"{op}: the kernels accumulate in float32 and take no float64: set {VARIABLE} to auto or torch")
    return False


def register(name: str, launch: Callable) -> CustomOpDef:
    """The op `xkd::name` whose kernels `launch` launches; its first argument is a tensor, and it changes none of them.

    Triton launches on the current device, which need not be where the tensors are.
    """

    @functools.wraps(launch)
    def launch_where_the_tensors_are(first: Tensor, *others):
        with torch.cuda.device_of(first):
            return launch(first, *others)

    return custom_op(f"xkd::{name}", launch_where_the_tensors_are, mutates_args=(), device_types=DEVICES)


def check_devices(op: str, **tensors: Tensor) -> None:
    """Raises ValueError, naming them all, where the tensors are not on one device."""
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"{op}: needs all tensors on one device, not {listed}")
