"""The examples of each step, read ahead of use, damaged ones replaced or left out; it goes on where its state says."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from xkd.pipelines.config import DataConfig
from xkd.pipelines.read_ahead import read_ahead
from xkd.pipelines.samples.quarantine import Damage, Exchange, Quarantine, TooManyDamaged, alone, summary
from xkd.pipelines.samples.replacement import MAX_DAMAGED_IN_A_ROW, EpochReader, NoneHealthy, Read
from xkd.pipelines.samples.sampler import Sampler
from xkd.pipelines.samples.source import STORED_AS, Example, Source
from xkd.pipelines.shards.index import Sample, ShardSet
from xkd.pipelines.shards.open_files import OpenFiles
from xkd.pipelines.stopwatch import Stopwatch
from xkd.pipelines.views.example import BOTH, StreamName
from xkd.pipelines.views.presets import Preset


@dataclass(frozen=True)
class Step:
    """One rank's examples of a step. Where `valid` is False, some healthy example fills the row: it is not to be counted."""

    number: int
    examples: list[Example]
    substituted: np.ndarray  # [B] bool: the example is of another sample than the one asked for, which is damaged
    valid: np.ndarray  # [B] bool: all True in training
    damages: list[Damage]  # found while the step was read
    reads: list[Read]  # what the rows were made of


class ExampleStream:
    """What a Loader is without its graph (see there); a context manager, since `close` ends threads and closes files.

    `epoch` gives the steps of an epoch. Who works on several at a time takes them from `steps`, after `begin`, and says with
    `deliver` that one is handed on: only then does it count. Before, examples may be replaced (`replace`). `reading` is the time
    that threads have spent in reading.
    """

    def __init__(
        self,
        shards: ShardSet,
        config: DataConfig,
        preset: Preset,
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        streams: Sequence[StreamName] = BOTH,
        ids: np.ndarray | None = None,
        exchange: Exchange = alone,
        files: OpenFiles | None = None,
    ):
        self.config = preset.narrow(config, streams)
        self._shards, self._training, self._batch_size, self._rank = shards, preset.training, batch_size, rank
        self._exchange = exchange if preset.training else alone
        split = {"batch_size": batch_size, "seed": seed, "rank": rank, "world_size": world_size}
        self._files = files or OpenFiles(shards.files)
        self._source = Source(shards, self.config, preset, seed, self._files.pread)
        self._sampler = Sampler(shards, self.config, preset, **split, ids=ids)
        self._epoch = 0
        self.position = (0, 0)  # epoch and step that come next
        self._running: Iterator[Step] | None = None
        self._filler: Example | None = None
        self.too_short = self._sampler.num_left_out
        self.max_substituted = math.floor(config.max_bad_share * self._sampler.num_samples + 1e-9)
        self.quarantine = Quarantine()
        self.substituted = 0
        left_out = [] if preset.training else self._sampler.left_out().tolist()
        self._left_out = [_without_a_stream(shards.sample(index), streams) for index in left_out]
        self.dropped: list[tuple[str, str]] = []
        self.reading = Stopwatch()
        self._reader: EpochReader | None = None
        self._names = [shard.name for shard in shards.manifest.shards]
        self._check_capacity()

    def __len__(self) -> int:
        """Steps an epoch, the same on every rank."""
        return self._sampler.num_steps

    def __enter__(self) -> "ExampleStream":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __iter__(self) -> Iterator[Step]:
        """The rest of the epoch that is under way, or the next one."""
        return self.epoch(*self.position)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Step]:
        """The steps of an epoch from one on. Starting one ends the one before, finished or not."""
        self.begin(epoch, start_step)
        return self._delivered()

    def _delivered(self) -> Iterator[Step]:
        for step in self.steps():
            self.deliver(step)
            yield step
            self.check_substituted()

    def close(self) -> None:
        """End the threads and close the files, but not `shards.files`, which other streams of the set may use."""
        self._end_epoch()
        self._files.close()

    def begin(self, epoch: int, start_step: int = 0) -> None:
        """Say which step is to be delivered next. Calls `exchange`."""
        self._end_epoch()
        if (epoch, start_step) != self.position or not start_step:
            self.substituted = 0
        self._epoch, self.position = epoch, (epoch, start_step)
        self.dropped = list(self._left_out)
        self.share()

    def share(self) -> None:
        """Make `quarantine` that of all ranks. Calls `exchange`."""
        self.quarantine.share(self._exchange)

    def steps(self) -> Iterator[Step]:
        """The steps of the epoch that has begun, none of which is delivered yet.

        At its end, reading ends: who may want to `replace` examples of the last step does not go there before.
        """
        self._running = self._read_steps(*self.position)
        return self._running

    def replace(self, step: Step, reasons: Mapping[int, str]) -> Step:
        """The step without the examples of some rows, which cannot be decoded, for these reasons; they count as damaged."""
        with self._too_many_where_none_is_healthy():
            reads = [
                self._reader.reject(read, step.examples[row], reasons[row]) if row in reasons else read
                for row, read in enumerate(step.reads)
            ]
            return self._step(step.number, reads, self._reader)

    def _end_epoch(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None

    def deliver(self, step: Step) -> None:
        """Count a step as used: `state_dict` says that it is done."""
        self.position = divmod(self._epoch * len(self) + step.number + 1, len(self))
        self.substituted += int(step.substituted.sum())
        for damage in step.damages:
            if damage.sample_id not in self.quarantine:
                warnings.warn(f"{damage}; {'it is replaced' if self._training else 'it is left out'}", stacklevel=3)
        if self._training:
            self.quarantine.add(step.damages)
        else:
            self.dropped += [(damage.key, damage.reason) for damage in step.damages]

    def check_substituted(self) -> None:
        """Raises TooManyDamaged where this rank alone has delivered more substitutes in the epoch than `max_bad_share` allows."""
        if self.substituted > self.max_substituted:
            raise self.too_many(self.substituted)

    def too_many(self, substituted: int) -> TooManyDamaged:
        """The error of more than `max_substituted` in the epoch; names samples of `quarantine`."""
        return self._too_many(f"{substituted} clips of epoch {self._epoch} were replaced", self.quarantine)

    def state_dict(self) -> dict:
        """What is delivered so far, by all ranks; `load_state_dict` goes on from it. Calls `exchange`."""
        epoch, step = self.position
        self.share()
        substituted = sum(chain.from_iterable(self._exchange([self.substituted if step else 0])))
        damages = [damage.model_dump() for damage in self.quarantine]
        return {**self._sampler.facts(), "epoch": epoch, "step": step, "substituted": substituted, "quarantine": damages}

    def load_state_dict(self, state: dict) -> None:
        """Go on where a state was taken, on whatever number of ranks.

        Raises ValueError if this stream has another seed, order, global batch or set of samples.
        """
        facts = self._sampler.facts()
        if changed := [
            f"{name} was {state.get(name)} and is now {facts[name]}" for name in facts if state.get(name) != facts[name]
        ]:
            raise ValueError(
                f"{self._shards.location}: the state to go on from has another order of samples ({'; '.join(changed)}): go on with"
                " the same settings and shards, or start anew"
            )
        self._end_epoch()
        self.position = (state["epoch"], state["step"])
        self.substituted = state["substituted"] if self._rank == 0 else 0  # what counts is the sum over ranks
        self.quarantine = Quarantine(map(Damage.model_validate, state["quarantine"]))

    def _read_steps(self, epoch: int, start_step: int) -> Iterator[Step]:
        order, places = self._sampler.order(epoch), self._sampler.places(start_step)
        tries = min(len(order), max(MAX_DAMAGED_IN_A_ROW, self.max_substituted + 1))
        passed_over = self.quarantine.passed_over(epoch)
        reader = EpochReader(self._source, self._training, epoch, order, self._sampler.streams, passed_over, tries)
        self._reader = reader
        told = self._sampler.uses(order, places).announce(
            self._shards.files, self._names, self._sampler.places_a_block, self.config.read_ahead
        )
        asked = (reader.ask(place) for place, _ in zip(places.tolist(), told, strict=False))
        self._files.resume()
        fetch = self.reading.timed(reader.fetch)
        with closing(told), closing(read_ahead(fetch, asked, self.config.read_ahead, self._files.interrupt)) as fetched:
            for number in range(start_step, len(self)):
                yield self._step(number, self._settled(fetched, reader), reader)

    def _settled(self, fetched: Iterator, reader: EpochReader) -> list[Read]:
        with self._too_many_where_none_is_healthy():
            return [reader.settle(*one) for one in islice(fetched, self._batch_size)]

    @contextmanager
    def _too_many_where_none_is_healthy(self) -> Iterator[None]:
        try:
            yield
        except NoneHealthy as error:
            raise self._too_many(str(error), error.damages or self.quarantine) from None

    def _step(self, number: int, reads: list[Read], reader: EpochReader) -> Step:
        """A step of what was read, its empty rows filled with the latest healthy example."""
        found = [read.example for read in reads if read.example is not None]
        if len(found) < len(reads):
            usable = self._filler is not None and self._filler.sample.id not in reader.lost
            self._filler = found[-1] if found else self._filler if usable else self._any_healthy(reader)
        return Step(
            number,
            examples=[read.example or self._filler for read in reads],
            substituted=np.array([read.substituted for read in reads]),
            valid=np.array([read.example is not None for read in reads]),
            damages=[damage for read in reads for damage in read.damages],
            reads=reads,
        )

    def _any_healthy(self, reader: EpochReader) -> Example:
        damages = []
        for place, sample_id in enumerate(reader.order.tolist()):
            if sample_id in reader.lost:
                damages.append(reader.lost[sample_id])
                continue
            asked = reader.ask(place)
            read = reader.settle(asked, reader.fetch(asked))
            if read.example is not None:
                return read.example
            damages += read.damages
        raise TooManyDamaged(f"{self._shards.location}: no sample is healthy: {summary(damages)}. Copy the shards again")

    def _too_many(self, what: str, damages: Iterable[Damage]) -> TooManyDamaged:
        return TooManyDamaged(
            f"{self._shards.location}: {what}; data.max_bad_share {self.config.max_bad_share:g} allows {self.max_substituted} of"
            f" {self._sampler.num_samples}. Damaged: {summary(damages)}. Copy these shards again, or raise data.max_bad_share"
        )

    def _check_capacity(self) -> None:
        capacity = self._shards.files.capacity_bytes
        if capacity is None:
            return
        uses = self._sampler.uses(self._sampler.order(0), self._sampler.places())
        tars = uses.most_at_hand(self._sampler.places_a_block + self.config.read_ahead)
        # Other epochs have other shards at hand together, and perhaps one more.
        needed = sum(sorted((shard.tar_bytes for shard in self._shards.manifest.shards), reverse=True)[: tars + 1])
        if needed > capacity:
            raise ValueError(
                f"data.cache_bytes: {capacity} is too little: at a time, a rank reads from shards of {needed} bytes, those that it"
                f" needs next included; set {needed} or more for each rank of a node, or smaller data.block_shards and"
                " data.canonical_nodes"
            )


def _without_a_stream(sample: Sample, streams: Sequence[StreamName]) -> tuple[str, str]:
    """Key and reason of a sample that lacks one of these streams."""
    found = {"video": sample.video.frames, "audio": sample.audio.samples}
    return sample.key, f"it has no {next(STORED_AS[stream] for stream in streams if not found[stream])}"
