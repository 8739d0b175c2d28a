"""Memory for finished views on the CPU, used again once nobody holds a view of it; a GPU's allocator does so by itself."""

import weakref

import numpy as np
import torch


class Buffers:
    """Fresh pages cost the kernel more time (2 CPU-ms a default clip) than the colours that are written to them (1 CPU-ms)."""

    def __init__(self):
        # Each array, and a reference to its last borrower: another array of the same memory, which a tensor made of it keeps alive.
        self._lent: dict[tuple[int, ...], list[tuple[np.ndarray, weakref.ref]]] = {}

    def empty(self, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """An uninitialised float32 tensor; its memory is its own for as long as any tensor refers to it."""
        if device.type != "cpu":
            return torch.empty(shape, device=device)
        lent = self._lent.setdefault(shape, [])
        place = next((place for place, (_, borrower) in enumerate(lent) if borrower() is None), len(lent))
        array = lent[place][0] if place < len(lent) else np.empty(shape, np.float32)
        borrower = array[...]
        lent[place : place + 1] = [(array, weakref.ref(borrower))]
        return torch.from_numpy(borrower)
