"""Batches of torch tensors from a shard set, in an order and with augmentations that resume exactly."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Literal

import numpy as np

from xkd.pipelines.config import DataConfig
from xkd.pipelines.loading.batch import Batch
from xkd.pipelines.loading.buffers import Buffers
from xkd.pipelines.loading.lanes import Lanes
from xkd.pipelines.loading.loans import Loans
from xkd.pipelines.samples.quarantine import Exchange, Quarantine, TooManyDamaged, alone
from xkd.pipelines.samples.stream import ExampleStream, Step
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.stopwatch import Stopwatch
from xkd.pipelines.views.example import BOTH, StreamName
from xkd.pipelines.views.finish import finish
from xkd.pipelines.views.presets import PRESETS


class Loader:
    """Iterates over a shard set; a context manager, since `close` ends its threads.

    An example depends on (seed, epoch, sample id) alone and an epoch's order on (seed, epoch): batch size, ranks, threads and
    resuming change neither. Samples are those of the set, or of `ids` only; what lacks one of the `streams` is left out.

    Presets `pretrain`, `linear` and `finetune` shuffle, leave out the last partial global batch, and put the next healthy sample in
    a damaged one's place (`substituted` counts those of the epoch). `pretrain` has local views, and leaves out samples shorter than
    `min_seconds`; `too_short` counts all that are left out. Damaged samples are kept in `quarantine`; those found before an epoch
    are not read in it. More of them than `max_bad_share` of an epoch raise TooManyDamaged.

    Presets `svm`, of augmented clips, and `eval`, for which nothing is drawn, give every sample once over all ranks, in stored
    order, in batches that are always full; what is damaged or lacks a stream is left out and listed in `dropped` with the reason.

    A sample that the graph fails on, though its bytes are those that were written, is found out and damaged like any other.

    `exchange` shares what ranks have found: every rank calls `epoch`, `share` and `state_dict` at the same points of the run.
    `wait_seconds` is the time that the consumer has spent in here, `stage_seconds` tells on what. On a GPU (`device`) views are on
    torch's current device, made in the order of its current stream.
    """

    def __init__(
        self,
        shards: ShardSet,
        config: DataConfig,
        *,
        preset: Literal["pretrain", "linear", "finetune", "svm", "eval"],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: Literal["cpu", "gpu"] = "cpu",
        streams: Sequence[StreamName] = BOTH,
        ids: np.ndarray | None = None,
        exchange: Exchange = alone,
    ):
        part = {"batch_size": batch_size, "rank": rank, "world_size": world_size, "streams": streams, "ids": ids}
        self._stream = ExampleStream(shards, config, PRESETS[preset], seed=seed, exchange=exchange, **part)
        self._num_classes = len(shards.manifest.classes)
        self._prefetch = config.prefetch
        self._lanes = Lanes(self._stream.config, batch_size=batch_size, device=device, replace=self._stream.replace)
        self._buffers = Buffers()
        self._loans = Loans()
        self._epoch: Iterator[Batch] | None = None
        self._feeding, self._decoding, self._finishing = Stopwatch(), Stopwatch(), Stopwatch()
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
        self._leave_epoch()
        self._stream.close()
        self._lanes.close()
        self._loans.close()

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Seconds so far. `read`: of all threads that read, while others work. The rest is the consumer's time in here (`wait`).

        `feed`: waiting for what is read, checking it and drawing; `decode`: waiting for the graph; `finish`: views of its outputs.
        """
        watches = {"read": self._stream.reading, "feed": self._feeding, "decode": self._decoding, "finish": self._finishing}
        return {stage: watch.seconds for stage, watch in watches.items()} | {"wait": self.wait_seconds}

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
        assert not self._lanes.closed, "the loader is closed"
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
            self._leave_epoch()
            self._lanes.drain()

    def _leave_epoch(self) -> None:
        if self._epoch is not None:
            self._epoch.close()
            self._epoch = None

    def _batches(self) -> Iterator[Batch]:
        entered = time.perf_counter()
        remaining = len(self) - self._stream.position[1]
        with closing(self._stream.steps()) as steps:
            upcoming = map(self._lanes.put, islice(steps, remaining))  # not beyond the last, of which samples may yet be replaced
            self._advance(upcoming, self._prefetch)
            while len(self._lanes):
                step, batch = self._taken()
                self._advance(upcoming, 1)
                self._stream.deliver(step)
                self.wait_seconds += time.perf_counter() - entered
                yield batch
                entered = time.perf_counter()
                self._stream.check_substituted()

    def _advance(self, upcoming: Iterator[None], steps: int) -> None:
        with self._feeding.running():
            for _ in islice(upcoming, steps):
                pass

    def _taken(self) -> tuple[Step, Batch]:
        """The oldest step, waited for, and its views."""
        with self._decoding.running():
            step, outputs = self._lanes.take()
        with self._finishing.running():
            views = finish(outputs, [example.after for example in step.examples], self._stream.config, self._buffers)
            self._loans.keep(outputs)
        return step, Batch.of(step, views, self._num_classes)
