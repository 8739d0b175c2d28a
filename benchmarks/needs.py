"""What a provider of a benchmark needs beside the project's own requirements, and whether it is there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version

from xkd.env import gpu_names

NEEDS_GPU = "needs a GPU"


@dataclass(frozen=True)
class Needs:
    """Modules to import, and the distributions that they come with; and whether a GPU."""

    modules: Mapping[str, str] = field(default_factory=dict)
    gpu: bool = False

    def __or__(self, other: "Needs") -> "Needs":
        return Needs({**self.modules, **other.modules}, self.gpu or other.gpu)

    def missing(self) -> str | None:
        """Why it cannot be had here, if so."""
        for name, distribution in self.modules.items():
            try:
                import_module(name)
            except (ImportError, OSError, RuntimeError) as error:  # torchcodec raises the last where it finds no FFmpeg
                return f"{distribution}: {str(error).strip().splitlines()[0]}"
        return NEEDS_GPU if self.gpu and not gpu_names() else None

    def versions(self) -> str:
        return ", ".join(f"{distribution} {version(distribution)}" for distribution in self.modules.values())


NOTHING = Needs()
GPU = Needs(gpu=True)
TORCH = Needs({"torchvision": "torchvision", "torchaudio": "torchaudio"})
