"""A shard folder as an indexed, read-only set of samples."""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from xkd.pipelines.shards.manifest import MANIFEST, Manifest, ShardRecord, read_manifest, totals
from xkd.pipelines.shards.shard_files import LocalFiles, ShardFiles
from xkd.pipelines.shards.sidecar import ROLES, AudioEntry, Columns, VideoEntry, open_sidecar, unpack

# Each open sidecar holds a file descriptor, of which a process may have few; opening one again is cheap.
OPEN_SIDECARS = 256


@dataclass(frozen=True)
class Sample:
    """Where a sample's bytes are and what they decode to; `id` is its place in the set, `shard` the tar, `roles` those in folds."""

    id: int
    shard: Path
    key: str
    labels: tuple[int, ...]
    video: VideoEntry
    audio: AudioEntry
    roles: tuple[str, ...] = ()


class ShardSet:
    """The samples of a shard folder in stored order, looked up through the memory-mapped sidecars; `files` gives their tars.

    `location` is where they come from, `folder` where they are read: the same but for a set that is kept in a cache.
    """

    def __init__(self, folder: Path, manifest: Manifest, files: ShardFiles | None = None, location: str | None = None):
        _check_totals(folder / MANIFEST, manifest)
        self.folder = folder
        self.manifest = manifest
        self.files = files or LocalFiles(folder)
        self.location = location or str(folder)
        self._starts = np.cumsum([0, *(shard.num_samples for shard in manifest.shards)])
        self._columns = lru_cache(OPEN_SIDECARS)(self._open_columns)

    @classmethod
    def open(cls, folder: str | Path) -> "ShardSet":
        """Open a finished shard folder; ValueError if it is absent, unfinished, or its files do not fit its manifest."""
        folder = Path(folder)
        manifest = read_manifest(folder)
        for shard in manifest.shards:
            _check_size(folder / f"{shard.name}.tar", shard.tar_bytes)
            _check_sidecar(folder / f"{shard.name}.safetensors", shard)
        return cls(folder, manifest)

    def __len__(self) -> int:
        return self.manifest.num_samples

    @property
    def classes(self) -> list[str]:
        return list(self.manifest.classes)

    def sample(self, index: int) -> Sample:
        """The sample at `index`, 0 <= index < len(self)."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        entry = unpack(self._columns(shard), index - self._starts[shard])
        tar = self.folder / f"{self.manifest.shards[shard].name}.tar"
        return Sample(index, tar, entry.key, entry.labels, entry.video, entry.audio, entry.roles)

    def column(self, name: str) -> np.ndarray:
        """A sidecar column of all samples (a copy), such as `video_frames` or `audio_samples`."""
        return np.concatenate([self._columns(shard)[name] for shard in range(len(self.manifest.shards))])

    def shard_numbers(self) -> np.ndarray:
        """The shard of each sample, by its place in the manifest, int64 [N]."""
        return np.repeat(np.arange(len(self.manifest.shards)), np.diff(self._starts))

    def labels(self) -> np.ndarray:
        """The class of each sample [N] int64; ValueError unless every sample has exactly one."""
        for shard in range(len(self.manifest.shards)):
            counts = np.diff(self._columns(shard)["labels_offsets"])
            if (counts != 1).any():
                index = int(self._starts[shard] + np.flatnonzero(counts != 1)[0])
                sample = self.sample(index)
                raise ValueError(f"{self.folder}: sample {sample.key} has {len(sample.labels)} labels; here each needs exactly one")
        return self.column("labels").astype(np.int64)

    def fold_ids(self, fold: int, role: str) -> np.ndarray:
        """Ids of the samples that are `role` (train, test or unused) in a fold, which counts from 1 on, int64 [n].

        Raises ValueError where the set has no such fold.
        """
        if not 1 <= fold <= self.manifest.num_folds:
            have = f"has the folds 1 to {self.manifest.num_folds}" if self.manifest.num_folds else "has no folds"
            raise ValueError(f"{self.location}: {have}, and fold {fold} is asked for")
        return np.flatnonzero(self.column("fold_roles")[:, fold - 1] == ROLES.index(role))

    def _open_columns(self, shard: int) -> Columns:
        record = self.manifest.shards[shard]
        path = self.folder / f"{record.name}.safetensors"
        columns = open_sidecar(path)
        if len(columns["key"]) != record.num_samples:
            raise ValueError(
                f"{path}: has {len(columns['key'])} samples, but {record.num_samples} in the manifest; copy the shard folder again"
            )
        return columns


def _check_totals(path: Path, manifest: Manifest) -> None:
    """No checksum covers the manifest, but a changed number in it (of samples, or a rate) no longer agrees with the others."""
    for name, total in totals(manifest.shards, manifest.settings.profile, len(manifest.classes)).items():
        if getattr(manifest, name) != total:
            raise ValueError(
                f"{path}: {name} is {getattr(manifest, name)}, but {total} in its shards together; copy the shard folder again"
            )


def _check_sidecar(path: Path, record: ShardRecord) -> None:
    """A changed bit in a sidecar would be a wrong label; in a tar, which is not read here, it is found by the CRCs."""
    _check_size(path, record.sidecar_bytes)
    if sha256(path.read_bytes()).hexdigest() != record.sidecar_sha256:
        raise ValueError(f"{path}: its sha256 is not that of the manifest; copy the shard folder again, or write it again")


def _check_size(path: Path, size: int) -> None:
    found = path.stat().st_size if path.exists() else None
    if found != size:
        state = "is missing" if found is None else f"has {found} bytes, but {size} in the manifest"
        raise ValueError(f"{path}: {state}; copy the shard folder again, or delete it and write it again")
