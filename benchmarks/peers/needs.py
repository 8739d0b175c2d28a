"""What a provider of a benchmark needs beside the project's own requirements, and whether it is there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version


@dataclass(frozen=True)
class Needs:
    """Modules to import, and the distributions that they come with."""

    modules: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: "Needs") -> "Needs":
        return Needs({**self.modules, **other.modules})

    def missing(self) -> str | None:
        """Why something cannot be imported, if so."""
        for name, distribution in self.modules.items():
            try:
                import_module(name)
            except (ImportError, OSError, RuntimeError) as error:  # torchcodec raises the last where it finds no FFmpeg
                return f"{distribution}: {str(error).strip().splitlines()[0]}"
        return None

    def versions(self) -> str:
        return ", ".join(f"{distribution} {version(distribution)}" for distribution in self.modules.values())


NOTHING = Needs()
TORCH = Needs({"torchvision": "torchvision", "torchaudio": "torchaudio"})
