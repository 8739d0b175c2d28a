"""An online probe: what the teachers' features are worth while they are trained, on clips that are not trained on."""

import math
import time
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from xkd.features import FeatureNet, batch_features, counted_batches
from xkd.model.networks import Teacher, build_networks
from xkd.neighbours import knn_hits, places
from xkd.pipelines.loader import Loader
from xkd.pipelines.store.opening import open_shards
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place, exchange, sum_over_ranks, together
from xkd.train.task import clips_at_once

MODALITIES = ("video", "audio")
RECALLS = (1, 5)
Rows = dict[str, Tensor]  # of each clip its `ids` and `labels` [N], and its features `video` and `audio` [N, D]


class Probe:
    """Measures the teachers on the first `probe.clips` samples of `data.test`; every rank works on its part of them.

    It computes in float32 with networks and a loader of its own, and draws no random numbers: training goes on as if it had not
    been. Raises ValueError where the shards cannot be read.
    """

    def __init__(self, config: PretrainConfig, place: Place, device: Literal["cpu", "gpu"], steps_per_epoch: int):
        self._config, self._place, self._loader_device = config, place, device
        self._every_steps = max(1, round(config.probe.every_epochs * steps_per_epoch))
        self._batch_size = clips_at_once(config, place)
        self._shards = open_shards(config.data.test, config.data)
        self._open_loader().close()  # what it refuses is better known before the run begins

    def is_due(self, step: int) -> bool:
        """Whether `probe.every_epochs` ends after `step` steps; also before the first, to know what untrained teachers reach."""
        return step % self._every_steps == 0

    @torch.no_grad()
    def measure(self, weights: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
        """Shares in [0, 1] by their names in the log. Every rank must call it, with a whole network's `weights`; all get the same.

        `probe/knn_M`: clips whose class the nearest others name, by the encoder's features of modality M, or by both side by side,
        each of unit length. `probe/M_to_O_rK`: clips of which modality M finds modality O among the K most similar of all, by the
        outputs of the heads less their mean over the clips. Clips without exactly one class are in no k-NN; it is absent where no
        clip has one.
        """
        began = time.perf_counter()
        teachers = build_teachers(self._config, weights)
        net = {modality: teacher.encoder.features for modality, teacher in teachers.items()}
        rows = self._merged(exchange(together(partial(self._own_rows, net))))
        device = teachers["video"].center.device
        rows = {name: tensor.to(device) for name, tensor in rows.items()}
        own = torch.arange(self._place.rank, len(rows["ids"]), self._place.world_size, device=device)
        outputs = {modality: teacher.head(rows[modality]) for modality, teacher in teachers.items()}
        hits = knn(rows, own, self._config.probe.neighbours) | retrieval(outputs, own)
        counts = torch.tensor([[float(hit.sum()), len(hit)] for hit in hits.values()], dtype=torch.float64, device=device)
        shares = {f"probe/{name}": hit / of for name, (hit, of) in zip(hits, sum_over_ranks(counts).tolist(), strict=True) if of}
        return {**shares, "probe/clips": len(rows["ids"]), "probe/seconds": time.perf_counter() - began}

    def _open_loader(self) -> Loader:
        return Loader(
            self._shards,
            self._config.data,
            preset="eval",
            batch_size=self._batch_size,
            rank=self._place.rank,
            world_size=self._place.world_size,
            device=self._loader_device,
        )

    def _own_rows(self, net: FeatureNet) -> list[Rows]:
        """This rank's clips, a batch each; its last may be of samples beyond those that are probed."""
        steps = math.ceil(self._config.probe.clips / (self._batch_size * self._place.world_size))
        with self._open_loader() as loader:
            return [
                {"ids": batch.sample_ids, "labels": batch.labels} | batch_features(batch, net)
                for batch in islice(counted_batches(loader), steps)
            ]

    def _merged(self, of_ranks: list[list[Rows]]) -> Rows:
        """The rows of all ranks in stored order, the same ones on any number of ranks."""
        batches = [rows for of_rank in of_ranks for rows in of_rank]
        merged = {name: torch.cat([rows[name] for rows in batches]) for name in batches[0]} if batches else {"ids": torch.empty(0)}
        order = merged["ids"].argsort()
        order = order[merged["ids"][order] < self._config.probe.clips]
        if len(order) < 2:
            raise ValueError(
                f"data.test: of the first {self._config.probe.clips} samples of {self._shards.location} only {len(order)} can be "
                "read, and a probe compares clips: give it a larger probe.clips or a healthy shard folder"
            )
        return {name: tensor[order] for name, tensor in merged.items()}


def build_teachers(config: PretrainConfig, weights: Iterable[tuple[str, Tensor]]) -> dict[str, Teacher]:
    """The teachers with these tensors of a whole network as their weights; a tensor is taken as it is, not copied."""
    with torch.device("meta"):
        networks = build_networks(config.model, config.data.video_shape, config.data.audio_shape, config.seed)
    teachers = {modality: getattr(networks, f"{modality}_teacher").eval() for modality in MODALITIES}
    states = {modality: {} for modality in MODALITIES}
    for name, tensor in weights:
        network, _, rest = name.partition(".")
        modality = network.removesuffix("_teacher")
        if modality in states:
            states[modality][rest] = tensor
    for modality, teacher in teachers.items():
        teacher.load_state_dict(states[modality], assign=True)
    return teachers


def knn(rows: Rows, own: Tensor, neighbours: int) -> Mapping[str, Tensor]:
    """Of the clips `own` that have a class, whether the others name it: `knn_video`, `knn_audio`, `knn_both`."""
    labelled = (rows["labels"] >= 0).nonzero()[:, 0]
    if len(labelled) < 2:
        return {}
    asked = torch.isin(labelled, own).nonzero()[:, 0]
    units = {modality: torch.nn.functional.normalize(rows[modality][labelled], dim=1) for modality in MODALITIES}
    units["both"] = torch.cat(list(units.values()), dim=1)
    return {f"knn_{name}": knn_hits(unit, rows["labels"][labelled], asked, neighbours) for name, unit in units.items()}


def retrieval(outputs: Mapping[str, Tensor], own: Tensor) -> Mapping[str, Tensor]:
    """Of the clips `own`, whether one modality finds the other: `video_to_audio_r1` and so on."""
    centred = {modality: output - output.mean(0) for modality, output in outputs.items()}
    hits = {}
    for query, candidate in (MODALITIES, MODALITIES[::-1]):
        found = places(centred[query], centred[candidate], own)
        hits |= {f"{query}_to_{candidate}_r{among}": found < among for among in RECALLS}
    return hits
