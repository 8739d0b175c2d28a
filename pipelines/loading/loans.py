"""Keeps DALI from using the memory of its outputs again while work on a GPU still reads them."""

from collections import deque

import torch

from xkd.pipelines.views.finish import Views


class Loans:
    """Outputs that were handed to the current stream, each until the work that was queued before `keep` is done.

    DALI takes memory back as soon as nobody refers to it, whatever still waits in a stream; torch would wait, for its own memory.
    On the CPU nothing waits, and nothing is kept.
    """

    def __init__(self):
        self._kept: deque[tuple[torch.cuda.Event, Views]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, outputs: Views) -> None:
        """Call it after the work that reads them was queued."""
        while self._kept and self._kept[0][0].query():
            self._kept.popleft()
        if any(output.is_cuda for output in outputs.values()):
            event = torch.cuda.Event()
            event.record()
            self._kept.append((event, outputs))

    def close(self) -> None:
        """Wait until all is read."""
        while self._kept:
            self._kept[0][0].synchronize()
            self._kept.popleft()
