"""A folder that keeps features: safetensors files of some samples each, written by any number of processes at any time.

What features depend on (the encoders, the samples, the views) is the store's description, and its checksum the folder's name. So
features that are found are right, what is not there yet is computed, and a process that is killed loses the file it had not
finished. A file `part-FIRST-LAST.safetensors`, named by its first and last sample's id, holds `ids` [n] int64, `keys` [n, 64]
(ASCII, filled up with zeros), `targets` [n, classes] uint8 (1 for each label), and the features of each modality [n, views, width]
float32; its metadata has the samples that could not be read, with the reasons.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from xkd.features import Features
from xkd.model.config import Modality
from xkd.permissions import usual_permissions

DESCRIPTION = "features.json"
NAME_DIGITS = 16
KEY_BYTES = 64


@dataclass(frozen=True)
class Rows:
    """Some samples: `ids` [n] and arrays of as many rows; `dropped` are the ids and reasons of those that could not be read."""

    ids: np.ndarray
    keys: list[str]
    targets: np.ndarray
    arrays: dict[str, np.ndarray]
    dropped: dict[int, str]


class FeatureStore:
    """The features that a description (plain json) is of, in a folder of its own below `root`."""

    def __init__(self, root: Path, description: dict):
        self.description = description
        text = json.dumps(description, sort_keys=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:NAME_DIGITS]

    def missing(self, ids: np.ndarray) -> np.ndarray:
        """Those of `ids` that are neither kept nor known as unreadable, in order."""
        known = [np.empty(0, np.int64)]
        for path in self._parts():
            with _open(path) as part:
                known += [part.get_tensor("ids"), np.array(list(_dropped(part)), np.int64)]
        return np.setdiff1d(ids, np.concatenate(known))

    def write(self, rows: Rows) -> None:
        """Keep some samples, or that they cannot be read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / DESCRIPTION).exists():
            _write_whole(self.folder / DESCRIPTION, lambda path: path.write_text(json.dumps(self.description, indent=2) + "\n"))
        covered = [*rows.ids.tolist(), *rows.dropped]
        padded = b"".join(key.encode("ascii").ljust(KEY_BYTES, b"\0") for key in rows.keys)
        tensors = {
            "ids": rows.ids.astype(np.int64),
            "keys": np.frombuffer(padded, np.uint8).reshape(len(rows.keys), KEY_BYTES),
            "targets": rows.targets.astype(np.uint8),
            **{modality: np.ascontiguousarray(array, np.float32) for modality, array in rows.arrays.items()},
        }
        path = self.folder / f"part-{min(covered):08d}-{max(covered):08d}.safetensors"
        _write_whole(path, lambda temporary: save_file(tensors, temporary, {"dropped": json.dumps(rows.dropped)}))

    def read(self, ids: np.ndarray) -> tuple[Features, dict[int, str]]:
        """The features of `ids`, all of which must be kept or known as unreadable, in order; and the latter's reasons."""
        found, dropped = [], {}
        for path in self._parts():
            with _open(path) as part:
                dropped |= _dropped(part)
                if (wanted := np.isin(part.get_tensor("ids"), ids)).any():
                    found.append({name: part.get_tensor(name)[wanted] for name in part.keys()})  # noqa: SIM118 it is no mapping
        dropped = {sample: reason for sample, reason in sorted(dropped.items()) if sample in set(ids.tolist())}
        if not found:
            raise ValueError(f"{self.folder}: none of {len(ids)} samples can be read: {'; '.join(list(dropped.values())[:3])}")
        columns = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        found_ids, first = np.unique(columns["ids"], return_index=True)  # two processes may have kept the same
        assert len(found_ids) + len(set(dropped) - set(found_ids.tolist())) == len(ids), "fill the store before reading it"
        rows = {name: column[first] for name, column in columns.items()}
        arrays = {modality: rows[modality] for modality in get_args(Modality) if modality in rows}
        keys = [row.tobytes().rstrip(b"\0").decode("ascii") for row in rows["keys"]]
        targets = rows["targets"]
        labels = np.where(targets.sum(1) == 1, targets.argmax(1), -1)
        return Features(arrays, labels, keys), dropped

    def _parts(self) -> Iterable[Path]:
        return sorted(self.folder.glob("part-*.safetensors"))


def _open(path: Path):
    try:
        return safe_open(path, "np")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: is damaged ({error}): delete it, and its features are computed again") from None


def _dropped(part) -> Mapping[int, str]:
    return {int(sample): reason for sample, reason in json.loads(part.metadata()["dropped"]).items()}


def _write_whole(path: Path, write) -> None:
    """Write a file under another name until it is whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with usual_permissions(temporary):
        write(temporary)
    os.replace(temporary, path)
