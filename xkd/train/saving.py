"""Saves checkpoints while training goes on."""

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch.distributed as dist
from safetensors import SafetensorError

from xkd.train import checkpoint, snapshot
from xkd.train.config import TrainingConfig
from xkd.train.distributed import LONGEST_WAIT, Place
from xkd.train.trainer import Trainer

T = TypeVar("T")


class NotWritten(Exception):
    """Some rank cannot write; the same on all ranks."""


class Saver:
    """Copies a trainer's state to the host at once and writes it in a thread of each rank, one checkpoint at a time.

    It is a checkpoint once the files of all ranks are on disk; where one cannot be written there is none, and those before stay.
    The threads meet in a process group of their own.
    """

    def __init__(self, config: TrainingConfig, place: Place):
        self._config, self._place = config, place
        self._group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
        self._thread: threading.Thread | None = None
        self.stall_seconds = 0.0  # that training has waited in here
        self.failures: dict[int, str] = {}  # steps whose checkpoint could not be written, and why; the same on all ranks

    def save(self, trainer: Trainer, meta: Mapping) -> None:
        """Begins to save a checkpoint with these facts, once the one before is written; every rank must call it."""
        began = time.perf_counter()
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(snapshot.take(trainer), meta), daemon=True)
        self._thread.start()
        self.stall_seconds += time.perf_counter() - began

    def wait(self) -> None:
        """Returns when nothing is being written."""
        if self._thread:
            self._thread.join()

    def _write(self, contents: snapshot.Snapshot, meta: Mapping) -> None:
        run_dir, rank, keep = self._config.run_dir, self._place.rank, self._config.train.keep_checkpoints
        folder = checkpoint.temporary(run_dir, meta["step"])
        try:
            self._together(lambda: checkpoint.clear(run_dir) if rank == 0 else None)
            sizes = self._together(lambda: contents.write(folder, rank))
            meta = {**meta, "files": {name: size for of_rank in sizes for name, size in of_rank.items()}}
            self._together(lambda: checkpoint.publish(folder, meta, keep) if rank == 0 else None)
        except Exception as error:  # noqa: BLE001 such as that a rank is gone; in a thread nobody would hear of it
            self.failures[meta["step"]] = f"the checkpoint of step {meta['step']} could not be written: {error}"
            if rank == 0:
                shutil.rmtree(folder, ignore_errors=True)

    def _together(self, function: Callable[[], T]) -> list[T]:
        """What each rank's function returns, once all have. Raises NotWritten on all where one cannot write."""
        result = problem = None
        try:
            result = function()
        except (OSError, SafetensorError) as error:
            problem = f"rank {self._place.rank}: {error}"
        found = [None] * self._place.world_size
        dist.all_gather_object(found, (result, problem), self._group)
        if problems := [problem for _, problem in found if problem]:
            raise NotWritten(problems[0])
        return [result for result, _ in found]
