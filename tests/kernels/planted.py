"""Kernels with faults that the compile check must find."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from xkd.benchmarks.kernel_cases import Case


@triton.jit
def _spilling(x_ptr, out_ptr, BLOCK: tl.constexpr):
    """One warp holds a row of 16,384 values until their sum is known: 512 registers a thread, of 255."""
    places = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + places)
    tl.store(out_ptr + places, x / tl.sum(x, 0))


@triton.jit
def _narrow(x_ptr, out_ptr, BLOCK: tl.constexpr):
    """Neighbouring threads read every third value."""
    places = tl.arange(0, BLOCK)
    tl.store(out_ptr + places, tl.load(x_ptr + 3 * places))


@triton.jit
def _greedy(x_ptr, out_ptr, steps, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Keeps several stages of tiles of 64 x 512 float32 in shared memory, 128 KiB each."""
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]
    total = tl.zeros((ROWS, ROWS), tl.float32)
    for step in range(steps):
        tile = tl.load(x_ptr + rows * BLOCK * steps + step * BLOCK + columns)
        total += tl.dot(tile, tl.trans(tile), input_precision="tf32")
    tl.store(out_ptr + rows * ROWS + tl.arange(0, ROWS)[None, :], total)


def spilling(x):
    _spilling[(1,)](x, torch.empty_like(x), BLOCK=16384, num_warps=1)


def narrow(x):
    _narrow[(1,)](x, torch.empty_like(x), BLOCK=1024)


def greedy(x):
    _greedy[(1,)](x, torch.empty_like(x), 8, ROWS=64, BLOCK=512, num_warps=8, num_stages=4)


def silent(x):
    """Launches nothing."""


FAULTS = {function.__name__: function for function in (spilling, narrow, greedy, silent)}


def values(batch, dtype, device):
    return (torch.empty(batch, 4096, dtype=dtype, device=device),)


@dataclass(frozen=True)
class Planted(Case):
    @property
    def function(self):
        return FAULTS[self.op]


def planted(name: str, **facts) -> Planted:
    return Planted(name, "planted", values, (torch.float32,), **facts)
