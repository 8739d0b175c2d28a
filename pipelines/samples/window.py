"""Which shards a rank reads when: what it must have at hand, what it needs next, and how many that are at most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xkd.pipelines.shards.shard_files import ShardFiles


@dataclass(frozen=True)
class ShardUses:
    """The shards that a reader touches, in the order of their first use, with the places of their first and last use; int64 [S]."""

    shards: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, sequence: np.ndarray) -> "ShardUses":
        """The uses of a reader whose sample at each place lies in shard `sequence[place]`."""
        shards, first = np.unique(sequence, return_index=True)
        last = len(sequence) - 1 - np.unique(sequence[::-1], return_index=True)[1]
        by_first_use = np.argsort(first)
        return cls(shards[by_first_use], first[by_first_use], last[by_first_use])

    def at_hand(self, place: int, beyond: int) -> np.ndarray:
        """Shards whose use is under way at a place or begins within `beyond` places of it, those needed first in front."""
        return self.shards[(self.first <= place + beyond) & (self.last >= place)]

    def most_at_hand(self, beyond: int) -> int:
        """The most shards that are `at_hand` at any place."""
        enters = np.maximum(self.first - beyond, 0)
        left = np.searchsorted(np.sort(self.last), enters)
        return int(np.max(np.searchsorted(np.sort(enters), enters, side="right") - left, initial=0))

    def announce(self, files: ShardFiles, names: Sequence[str], beyond: int, behind: int = 0) -> Iterator[None]:
        """Keeps `files` told of what is `at_hand` (by the names of all shards); to be advanced once before each place is read.

        Up to `behind` places before it may still be being read. Closed, it says that nothing is needed any more.
        """
        gains = set(np.maximum(self.first - beyond, 0).tolist())
        place = 0
        try:
            while True:
                if place in gains:
                    files.ahead([names[shard] for shard in self.at_hand(place - behind, beyond + behind)])
                yield
                place += 1
        finally:
            files.ahead([])
