"""Batches of torch tensors from a shard set, in an order and with augmentations that resume exactly."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch

from xkd.pipelines.config import DataConfig
from xkd.pipelines.executor import Executor
from xkd.pipelines.index import ShardSet
from xkd.pipelines.order import batch_positions, epoch_order, num_steps, num_streams
from xkd.pipelines.presets import PRESETS
from xkd.pipelines.source import Example, Source, long_enough
from xkd.pipelines.spectrogram import resize_crop


@dataclass(frozen=True)
class Batch:
    """One rank's examples of a step. B examples, L local views; T or t frames, F mel bands, S or s steps."""

    video_global: torch.Tensor  # [B, 3, T, H, W] float32, normalised
    video_local: torch.Tensor | None  # [B, L, 3, t, h, w]
    audio_global: torch.Tensor  # [B, 1, F, S] float32, normalised log-mel
    audio_local: torch.Tensor | None  # [B, L, 1, F, s]
    labels: torch.Tensor  # [B] int64; -1 where a sample has not exactly one label
    sample_ids: torch.Tensor  # [B] int64
    keys: list[str]
    valid: torch.Tensor  # [B] bool; False where a healthy sample stands in for a damaged one


@dataclass(frozen=True)
class _Pending:
    """What is known of a batch before the graph has made its views."""

    examples: list[Example]
    asked_ids: np.ndarray


class Loader:
    """Iterates over a shard set; a context manager, since `close` ends DALI's threads.

    An example depends on (seed, epoch, sample id) alone and an epoch's order on (seed, epoch): batch size, ranks, threads and
    resuming change neither. Preset `pretrain` shuffles, leaves out samples shorter than `min_seconds` (`too_short` counts them)
    and the last partial global batch, and puts the next healthy sample in a damaged one's place (`substitutions` counts them).
    Preset `eval` gives every sample once, in stored order, to one rank, and raises DamagedSample.
    `wait_seconds` is the time that the consumer has spent in here.
    """

    def __init__(
        self,
        shards: ShardSet,
        config: DataConfig,
        *,
        preset: Literal["pretrain", "eval"],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: Literal["cpu", "gpu"] = "cpu",
    ):
        self._preset = PRESETS[preset]
        assert self._preset.training or world_size == 1, "evaluation has no equal shares: one rank reads every sample"
        self._shards, self._config = shards, self._preset.narrow(config)
        self._seed, self._batch_size, self._rank, self._world_size = seed, batch_size, rank, world_size
        self._source = Source(shards, self._config, self._preset, seed)
        self._ids = self._eligible_ids()
        self._shard_numbers = shards.shard_numbers()[self._ids]
        self._streams = num_streams(config.order, config.canonical_nodes) if self._preset.training else 1
        self._executor = Executor(self._config, batch_size=batch_size, device=device)
        self._epoch: Iterator[Batch] | None = None
        self.too_short = len(shards) - len(self._ids)
        self.substitutions = 0
        self.wait_seconds = 0.0

    def __len__(self) -> int:
        """Steps an epoch, the same on every rank."""
        return num_steps(len(self._ids), self._batch_size, self._world_size, drop_last=self._preset.training)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """End DALI's threads. Batches already delivered stay valid."""
        self._end_epoch()
        self._executor.close()

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on. Starting one ends the one before, finished or not."""
        assert not self._executor.closed, "the loader is closed"
        self._end_epoch()
        self._epoch = self._batches(epoch, start_step)
        return self._epoch

    def _end_epoch(self) -> None:
        if self._epoch is not None:
            self._epoch.close()
            self._epoch = None
            self._executor.drain()

    def _eligible_ids(self) -> np.ndarray:
        if not self._preset.training:
            return np.arange(len(self._shards))
        ids = long_enough(self._shards, self._config.min_seconds)
        global_batch = self._batch_size * self._world_size
        if len(ids) < global_batch:
            raise ValueError(
                f"{self._shards.folder}: {len(ids)} of {len(self._shards)} samples last data.min_seconds"
                f" {self._config.min_seconds:g} or more, fewer than a global batch of {global_batch}; take a smaller batch"
            )
        return ids

    def _order(self, epoch: int) -> np.ndarray:
        if not self._preset.training:
            return self._ids
        settings = self._config.model_dump(include={"order", "block_shards", "canonical_nodes"})
        return self._ids[epoch_order(self._shard_numbers, self._seed, epoch, **settings)]

    def _batches(self, epoch: int, start_step: int) -> Iterator[Batch]:
        order = self._order(epoch)
        upcoming = (self._start(epoch, order, step) for step in range(start_step, len(self)))
        entered = time.perf_counter()
        pending = deque(islice(upcoming, self._config.prefetch))
        while pending:
            batch = self._finish(pending.popleft())
            pending.extend(islice(upcoming, 1))
            self.wait_seconds += time.perf_counter() - entered
            yield batch
            entered = time.perf_counter()

    def _start(self, epoch: int, order: np.ndarray, step: int) -> _Pending:
        """Read a batch and set the graph to work on it."""
        positions = batch_positions(len(order), step, self._batch_size, self._rank, self._world_size, self._streams)
        positions = positions[positions < len(order)]
        examples = [self._source.at(epoch, order, position, self._streams) for position in positions]
        self._executor.put([example.inputs for example in examples])
        return _Pending(examples, order[positions])

    def _finish(self, pending: _Pending) -> Batch:
        """Wait for the views of a batch."""
        samples = [example.sample for example in pending.examples]
        try:
            views = self._executor.take()
        except RuntimeError as error:
            names = ", ".join(f"{sample.shard}: {sample.key}" for sample in samples)
            raise RuntimeError(f"DALI failed on one of these samples: {names}") from error
        sample_ids = np.array([sample.id for sample in samples])
        valid = sample_ids == pending.asked_ids
        self.substitutions += int((~valid).sum())
        return Batch(
            video_global=views["video_global"],
            video_local=views.get("video_local"),
            audio_global=views["audio_global"].unsqueeze(1),
            audio_local=local_audio(views.get("audio_local"), pending.examples),
            labels=torch.tensor([sample.labels[0] if len(sample.labels) == 1 else -1 for sample in samples]),
            sample_ids=torch.from_numpy(sample_ids),
            keys=[sample.key for sample in samples],
            valid=torch.from_numpy(valid),
        )


def local_audio(spectrograms_BLFS: torch.Tensor | None, examples: list[Example]) -> torch.Tensor | None:
    """The local audio views [B, L, 1, F, S], after their random resize crop if there is one."""
    if spectrograms_BLFS is None:
        return None
    if examples[0].boxes is not None:
        spectrograms_BLFS = resize_crop(spectrograms_BLFS, np.stack([example.boxes for example in examples]))
    return spectrograms_BLFS.unsqueeze(2)
