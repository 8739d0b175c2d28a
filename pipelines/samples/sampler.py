"""Which samples a rank takes in an epoch: the order of a shard set's eligible samples, cut for the rank."""

import hashlib

import numpy as np

from xkd.pipelines.samples.order import epoch_order, num_steps, num_streams, rank_positions
from xkd.pipelines.samples.source import STORED_AS, long_enough
from xkd.pipelines.samples.window import ShardUses
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.views.example import ExampleConfig
from xkd.pipelines.views.presets import Preset

ORDER_SETTINGS = ("order", "block_shards", "canonical_nodes")


class Sampler:
    """The order of one rank's samples; in training shuffled, without those that are too short, in whole global batches only.

    Otherwise it is the stored order, and the places from `num_samples` on, which fill the last global batch, lie past its end.
    Samples that are not of `ids`, or lack one of the streams, are in neither.
    """

    def __init__(
        self,
        shards: ShardSet,
        config: ExampleConfig,
        preset: Preset,
        *,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        ids: np.ndarray | None = None,
    ):
        self._config, self._training, self._seed = config, preset.training, seed
        self._min_seconds = config.min_seconds if preset.drop_short else 0
        self._split = (batch_size, rank, world_size)
        self._global_batch = batch_size * world_size
        self._chosen = np.arange(len(shards)) if ids is None else np.unique(np.asarray(ids, np.int64))
        assert not len(self._chosen) or 0 <= self._chosen[0] <= self._chosen[-1] < len(shards), ids
        self._confined = ids is not None
        self._ids = self._eligible_ids(shards)
        self._shard_numbers = shards.shard_numbers()
        self._shards_sha256 = shards.manifest.shards_sha256
        self.streams = num_streams(config.order, config.canonical_nodes) if self._training else 1

    @property
    def num_samples(self) -> int:
        return len(self._ids)

    @property
    def num_left_out(self) -> int:
        """Samples that were asked for and that no epoch holds."""
        return len(self._chosen) - len(self._ids)

    def left_out(self) -> np.ndarray:
        """Their ids, this rank's part of them, int64 [n]."""
        _, rank, world_size = self._split
        return np.setdiff1d(self._chosen, self._ids)[rank::world_size]

    @property
    def num_steps(self) -> int:
        """Steps an epoch, the same on every rank."""
        batch_size, _, world_size = self._split
        return num_steps(self.num_samples, batch_size, world_size, drop_last=self._training)

    def order(self, epoch: int) -> np.ndarray:
        """Sample ids of an epoch, of all ranks, int64 [num_samples]."""
        if not self._training:
            return self._ids
        settings = {name: getattr(self._config, name) for name in ORDER_SETTINGS}
        return self._ids[epoch_order(self._shard_numbers[self._ids], self._seed, epoch, **settings)]

    def places(self, start_step: int = 0) -> np.ndarray:
        """Places in the order that this rank takes, step after step from one on, int64 [steps * batch_size]."""
        steps = range(start_step, self.num_steps)
        return rank_positions(self.num_samples, *self._split, self.streams, steps=steps).ravel()

    def uses(self, order: np.ndarray, places: np.ndarray) -> ShardUses:
        """The shards that the samples at these places lie in."""
        return ShardUses.of(self._shard_numbers[order[places[places < len(order)]]])

    @property
    def places_a_block(self) -> int:
        """About how many places of a rank go by until all that it reads from is other shards than before."""
        _, _, world_size = self._split
        if self._training and self._config.order == "global":
            return self.num_samples
        samples = self._config.block_shards * len(self._shard_numbers) / (1 + self._shard_numbers[-1])
        return round(self.streams * samples / world_size)

    def facts(self) -> dict:
        """What two samplers have in common if one can go on where the other stopped, on whatever number of ranks."""
        return {
            "seed": self._seed,
            "global_batch": self._global_batch,
            **{name: getattr(self._config, name) for name in ORDER_SETTINGS},
            "num_samples": self.num_samples,
            "shards_sha256": self._shards_sha256,
            **({"ids_sha256": hashlib.sha256(self._chosen.tobytes()).hexdigest()} if self._confined else {}),
        }

    def _eligible_ids(self, shards: ShardSet) -> np.ndarray:
        streams = self._config.streams
        ids = np.intersect1d(long_enough(shards, self._min_seconds, streams), self._chosen, assume_unique=True)
        if not self._training:
            if not len(ids):
                needed = " and ".join(STORED_AS[stream] for stream in streams)
                raise ValueError(f"{shards.location}: none of {len(self._chosen)} samples has {needed}; evaluate another set")
            return ids
        if len(ids) < self._global_batch:
            raise ValueError(
                f"{shards.location}: {len(ids)} of {len(self._chosen)} samples last data.min_seconds"
                f" {self._min_seconds:g} or more, fewer than a global batch of {self._global_batch}; take a smaller batch"
            )
        return ids
