"""What a source says of a dataset: its classes and its items."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One media file of a dataset; `name` is its path within the dataset, with slashes, and unique there."""

    path: Path
    name: str
    labels: tuple[str, ...]
    split: str

    @property
    def digest(self) -> str:
        return blake2b(self.name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def key(self) -> str:
        """The sample's key: readable, unique, and free of what tar readers trip over (dots, slashes, long or non-ascii names)."""
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(self.name).stem)[:40]
        return f"{stem}-{self.digest}"


@dataclass(frozen=True)
class Listing:
    """A split of a dataset. Label ids are places in `classes`, which is the same list for every split."""

    classes: tuple[str, ...]
    items: Sequence[Item]
