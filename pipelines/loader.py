"""Batches of torch tensors from a shard set, in an order and with augmentations that resume exactly."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import numpy as np
import torch

from xkd.pipelines.config import DataConfig
from xkd.pipelines.executor import Executor
from xkd.pipelines.index import ShardSet
from xkd.pipelines.presets import PRESETS
from xkd.pipelines.quarantine import Exchange, Quarantine, TooManyDamaged, alone
from xkd.pipelines.source import Example
from xkd.pipelines.spectrogram import resize_crop
from xkd.pipelines.stream import ExampleStream, Step


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
    substituted: torch.Tensor  # [B] bool; True where a healthy sample takes the place of a damaged one
    valid: torch.Tensor  # [B] bool; False in evaluation where some sample fills the row: not to be counted

    def counted(self) -> "Batch":
        """The valid rows."""
        if self.valid.all():
            return self
        tensors = {name: rows[self.valid] for name, rows in vars(self).items() if isinstance(rows, torch.Tensor)}
        return replace(self, **tensors, keys=[key for key, valid in zip(self.keys, self.valid.tolist(), strict=True) if valid])


class Loader:
    """Iterates over a shard set; a context manager, since `close` ends its threads.

    An example depends on (seed, epoch, sample id) alone and an epoch's order on (seed, epoch): batch size, ranks, threads and
    resuming change neither. Preset `pretrain` shuffles, leaves out samples shorter than `min_seconds` (`too_short` counts them)
    and the last partial global batch, and puts the next healthy sample in a damaged one's place (`substituted` counts those of the
    epoch). Damaged samples are kept in `quarantine`; those found before an epoch are not read in it. More of them than
    `max_bad_share` of an epoch raise TooManyDamaged. Preset `eval` gives every sample once, in stored order, in batches that are
    always full; damaged ones are left out and listed in `dropped` with the reason.

    `exchange` shares what ranks have found: every rank calls `epoch`, `share` and `state_dict` at the same points of the run.
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
        exchange: Exchange = alone,
    ):
        split = {"batch_size": batch_size, "rank": rank, "world_size": world_size}
        self._stream = ExampleStream(shards, config, PRESETS[preset], seed=seed, exchange=exchange, **split)
        self._prefetch = config.prefetch
        self._executor = Executor(self._stream.config, batch_size=batch_size, device=device)
        self._epoch: Iterator[Batch] | None = None
        self.wait_seconds = 0.0

    def __len__(self) -> int:
        """Steps an epoch, the same on every rank."""
        return len(self._stream)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """End DALI's threads and those that read. Batches already delivered stay valid."""
        self._end_epoch()
        self._stream.close()
        self._executor.close()

    @property
    def too_short(self) -> int:
        return self._stream.too_short

    @property
    def substituted(self) -> int:
        """Clips of the running epoch that this rank has delivered in the place of damaged ones."""
        return self._stream.substituted

    @property
    def quarantine(self) -> Quarantine:
        """The damaged samples that this rank has found, and those of all ranks after `epoch`, `share` or `state_dict`."""
        return self._stream.quarantine

    @property
    def dropped(self) -> list[tuple[str, str]]:
        """Key and reason of the samples that this rank has left out of the running epoch."""
        return self._stream.dropped

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the epoch that is under way, or the next one."""
        return self.epoch(*self._stream.position)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on. Starting one ends the one before, finished or not."""
        assert not self._executor.closed, "the loader is closed"
        self._end_epoch()
        self._stream.begin(epoch, start_step)
        self._epoch = self._batches()
        return self._epoch

    def share(self) -> None:
        """Make `quarantine` that of all ranks."""
        self._stream.share()

    @property
    def max_substituted(self) -> int:
        """Clips of an epoch, over all ranks, that `max_bad_share` allows to be substituted."""
        return self._stream.max_substituted

    def too_many(self, substituted: int) -> TooManyDamaged:
        """The error of more than that; names samples of `quarantine`."""
        return self._stream.too_many(substituted)

    def state_dict(self) -> dict:
        """(seed, epoch, step) of what was delivered, what fixes the order, and the damaged samples found: json can hold it."""
        return self._stream.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Go on where a state was taken: `iter(loader)` gives the rest of its epoch.

        Raises ValueError if this loader has another seed, order, global batch or set of samples.
        """
        self._end_epoch()
        self._stream.load_state_dict(state)

    def _end_epoch(self) -> None:
        if self._epoch is not None:
            self._epoch.close()
            self._epoch = None
            self._executor.drain()

    def _batches(self) -> Iterator[Batch]:
        entered = time.perf_counter()
        upcoming = map(self._start, self._stream.steps())
        pending = deque(islice(upcoming, self._prefetch))
        while pending:
            step = pending.popleft()
            batch = self._finish(step)
            pending.extend(islice(upcoming, 1))
            self._stream.deliver(step)
            self.wait_seconds += time.perf_counter() - entered
            yield batch
            entered = time.perf_counter()
            self._stream.check_substituted()

    def _start(self, step: Step) -> Step:
        """Set the graph to work on a step."""
        self._executor.put([example.inputs for example in step.examples])
        return step

    def _finish(self, step: Step) -> Batch:
        """Wait for the views of a step."""
        samples = [example.sample for example in step.examples]
        try:
            views = self._executor.take()
        except RuntimeError as error:
            names = ", ".join(f"{sample.shard}: {sample.key}" for sample in samples)
            raise RuntimeError(f"DALI failed on one of these samples: {names}") from error
        return Batch(
            video_global=views["video_global"],
            video_local=views.get("video_local"),
            audio_global=views["audio_global"].unsqueeze(1),
            audio_local=local_audio(views.get("audio_local"), step.examples),
            labels=torch.tensor([sample.labels[0] if len(sample.labels) == 1 else -1 for sample in samples]),
            sample_ids=torch.tensor([sample.id for sample in samples]),
            keys=[sample.key for sample in samples],
            substituted=torch.from_numpy(step.substituted),
            valid=torch.from_numpy(step.valid),
        )


def local_audio(spectrograms_BLFS: torch.Tensor | None, examples: list[Example]) -> torch.Tensor | None:
    """The local audio views [B, L, 1, F, S], after their random resize crop if there is one."""
    if spectrograms_BLFS is None:
        return None
    if examples[0].boxes is not None:
        spectrograms_BLFS = resize_crop(spectrograms_BLFS, np.stack([example.boxes for example in examples]))
    return spectrograms_BLFS.unsqueeze(2)
