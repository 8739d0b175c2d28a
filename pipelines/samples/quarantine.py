"""The samples that were found damaged: who they are, since which epoch, and why."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

SHOWN = 5  # damaged samples, in a message

# What this rank has -> what each rank has, in rank order; called by all ranks at the same points.
Exchange = Callable[[list], list[list]]


def alone(own: list) -> list[list]:
    """The exchange of a rank that knows of no others."""
    return [own]


class Damage(BaseModel):
    """A sample that was found damaged, and the epoch in which it first was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_id: int
    key: str
    shard: str
    epoch: int
    reason: str

    def __str__(self) -> str:
        return f"{self.shard}: sample {self.key}: {self.reason}"


class TooManyDamaged(ValueError):
    """More samples are damaged than `data.max_bad_share` allows; names the first."""


def summary(damages: Iterable[Damage]) -> str:
    """The first damages in words, and how many there are besides."""
    damages = list(damages)
    more = f", and {len(damages) - SHOWN} more" if len(damages) > SHOWN else ""
    return ", ".join(map(str, damages[:SHOWN])) + more


class Quarantine:
    """Damaged samples. One found in an epoch is passed over from the next on, so that it does not matter who found it, and when."""

    def __init__(self, damages: Iterable[Damage] = ()):
        self._by_id: dict[int, Damage] = {}
        self.add(damages)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, sample_id: int) -> bool:
        return sample_id in self._by_id

    def __iter__(self) -> Iterator[Damage]:
        """In the order of the samples."""
        return (self._by_id[sample_id] for sample_id in sorted(self._by_id))

    def add(self, damages: Iterable[Damage]) -> None:
        """Keep the first damage of each sample, whatever the order in which they come."""
        for damage in damages:
            known = self._by_id.get(damage.sample_id, damage)
            self._by_id[damage.sample_id] = min(known, damage, key=lambda one: (one.epoch, one.reason))

    def passed_over(self, epoch: int) -> frozenset[int]:
        """Ids of the samples that an epoch does without: those found before it."""
        return frozenset(damage.sample_id for damage in self._by_id.values() if damage.epoch < epoch)

    def share(self, exchange: Exchange) -> None:
        """Make this the union over all ranks."""
        for damages in exchange([damage.model_dump() for damage in self]):
            self.add(map(Damage.model_validate, damages))

    def to_jsonl(self) -> str:
        """One json object a line."""
        return "".join(json.dumps(damage.model_dump()) + "\n" for damage in self)

    @classmethod
    def from_jsonl(cls, path: Path) -> "Quarantine":
        """What a file of `to_jsonl` holds; nothing where there is none. Raises ValueError where it holds something else."""
        lines = path.read_text().splitlines() if path.exists() else []
        quarantine = cls()
        for number, line in enumerate(lines, start=1):
            try:
                quarantine.add([Damage.model_validate_json(line)])
            except ValidationError as error:
                problem = error.errors()[0]
                raise ValueError(
                    f"{path}:{number}: is not the entry of a damaged sample ({problem['msg']}); mend or delete the line, or delete"
                    " the file to have every sample tried again"
                ) from None
        return quarantine
