"""Memory for finished views on the CPU, used again once nobody holds a view of it; a GPU's allocator does so by itself."""

import sys

import numpy as np
import torch

FREE = 3  # references to an array that only the list holds: the list, the loop's variable, the argument of getrefcount


class Buffers:
    """Fresh pages cost the kernel more time (2 CPU-ms a default clip) than the colours that are written to them (1 CPU-ms)."""

    def __init__(self):
        self._arrays: dict[tuple[int, ...], list[np.ndarray]] = {}

    def empty(self, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """An uninitialised float32 tensor; its memory is its own for as long as any tensor refers to it."""
        if device.type != "cpu":
            return torch.empty(shape, device=device)
        arrays = self._arrays.setdefault(shape, [])
        for array in arrays:
            if sys.getrefcount(array) == FREE:
                return torch.from_numpy(array)
        arrays.append(np.empty(shape, np.float32))
        return torch.from_numpy(arrays[-1])
