"""Reads the sample at a place of an order, or the one that takes its place where it is damaged."""

import math
from dataclasses import dataclass, field

import numpy as np

from xkd.pipelines.samples.quarantine import Damage
from xkd.pipelines.samples.source import Example, Fetched, Request, Source
from xkd.pipelines.shards.read import DamagedSample

# Far beyond chance.
MAX_DAMAGED_IN_A_ROW = 16


class NoneHealthy(ValueError):
    """Every sample that was tried for a place is damaged."""

    def __init__(self, tried: int, damages: list[Damage]):
        super().__init__(f"{tried} samples in a row are damaged")
        self.damages = damages


@dataclass(frozen=True)
class Read:
    """What was found for a place: an example, that of its `number`-th candidate, or none; and what was damaged."""

    place: int
    number: int = 0
    example: Example | None = None
    damages: tuple[Damage, ...] = ()

    @property
    def substituted(self) -> bool:
        return self.example is not None and self.number > 0


@dataclass(frozen=True)
class Asked:
    """A place, and the request for the sample to be tried first for it: the `number`-th candidate, or none."""

    place: int
    number: int = 0
    request: Request | None = None


@dataclass(frozen=True)
class EpochReader:
    """Reads the places of an epoch's order in three parts, `ask`, `fetch` and `settle`, of which only `fetch` waits.

    In training a damaged sample is replaced by the next healthy one of its stream: that of the places p + streams, p + 2 * streams,
    ... This depends on the order, the bytes and what was `passed_over` (known to be damaged before the epoch) alone. In evaluation
    nothing is found for it, nor for a place past the end.
    """

    source: Source
    training: bool
    epoch: int
    order: np.ndarray
    streams: int
    passed_over: frozenset[int]
    max_tries: int
    lost: dict[int, Damage] = field(default_factory=dict)  # found so far, and not to be read again

    def ask(self, place: int) -> Asked:
        if place >= len(self.order):
            return Asked(place)
        for number in range(self.max_tries):
            if self._candidate(place, number) not in self.passed_over:
                return Asked(place, number, self._request(place, number))
        raise NoneHealthy(self.max_tries, [])

    def fetch(self, asked: Asked) -> Fetched | None:
        return self.source.fetch(asked.request) if asked.request else None

    def settle(self, asked: Asked, fetched: Fetched | None) -> Read:
        """What is found for a place. Raises NoneHealthy in training, after `max_tries` samples."""
        if not asked.request:
            return Read(asked.place)
        return self._settled(asked.place, asked.number, self._made(asked.request, fetched), [])

    def reject(self, read: Read, undecodable: Example, reason: str) -> Read:
        """The same for a place whose example, or the one that fills it, turns out not to be decodable."""
        sample = undecodable.sample
        member = "video" if "video" in undecodable.inputs else "audio"
        damage = self._damage(DamagedSample(sample, member, getattr(sample, member).offset, f"cannot be decoded: {reason}"))
        if not self.training:
            self.lost[sample.id] = damage  # not in training, where which frames are decoded depends on the draws
        return self._settled(read.place, read.number, damage, list(read.damages)) if read.example is not None else read

    def _settled(self, place: int, number: int, found: Example | Damage, damages: list[Damage]) -> Read:
        while isinstance(found, Damage):
            damages.append(found)
            if not self.training:
                return Read(place, damages=tuple(damages))
            found, number = self._next(place, number + 1, damages)
        return Read(place, number, found, tuple(damages))

    def _next(self, place: int, begin: int, damages: list[Damage]) -> tuple[Example | Damage, int]:
        """The next candidate from the number `begin` on that may be healthy, and its number."""
        for number in range(begin, self.max_tries):
            candidate = self._candidate(place, number)
            if candidate in self.lost:
                return self.lost[candidate], number
            if candidate not in self.passed_over:
                request = self._request(place, number)
                return self._made(request, self.source.fetch(request)), number
        raise NoneHealthy(self.max_tries, damages)

    def _made(self, request: Request, fetched: Fetched) -> Example | Damage:
        try:
            return self.source.make(request, fetched)
        except DamagedSample as error:
            damage = self._damage(error)
            if error.member == "video":  # the same whatever is drawn, unlike sound, of which parts are read
                self.lost[damage.sample_id] = damage
            return damage

    def _damage(self, error: DamagedSample) -> Damage:
        sample = error.sample
        return Damage(sample_id=sample.id, key=sample.key, shard=sample.shard.name, epoch=self.epoch, reason=error.reason)

    def _request(self, place: int, number: int) -> Request:
        return self.source.request(self.epoch, self._candidate(place, number), drawn_for=int(self.order[place]))

    def _candidate(self, place: int, number: int) -> int:
        """The sample to try after `number` others: all of the stream, if need be, then the next stream."""
        size = len(self.order)
        round_trip = size // math.gcd(size, self.streams)
        return int(self.order[(place + number * self.streams + number // round_trip) % size])
