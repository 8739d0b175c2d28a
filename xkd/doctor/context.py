"""What the checks know of where they run."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from torch.distributed import Store

from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place


@dataclass(frozen=True)
class Context:
    """This process, the configuration to be run, if one is given, and what all processes of the launch write notes in."""

    place: Place
    host: str
    device: Literal["cpu", "gpu"]
    config: PretrainConfig | None
    notes: Store | None  # None: the processes have not found each other
    ending: ExitStack = field(default_factory=ExitStack)  # what is to be cleared away once all are done

    @property
    def alone(self) -> bool:
        return self.place.world_size == 1

    def note(self, name: str, text: str) -> None:
        """Tells the other processes, once they ask for it."""
        self.notes.set(name, text)

    def read_note(self, name: str, seconds: float) -> str | None:
        """What a process has noted, waited for; None where it has not."""
        try:
            self.notes.wait([name], timedelta(seconds=seconds))
        except RuntimeError:
            return None
        return self.notes.get(name).decode()
