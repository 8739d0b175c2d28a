"""What a provider of a benchmark needs beside the project's own requirements, and whether it is there."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from shutil import which

from xkd.env import gpu_names

NEEDS_GPU = "needs a GPU"


@dataclass(frozen=True)
class Needs:
    """Modules to import, and the distributions that they come with; a program, by its command; and whether a GPU."""

    modules: Mapping[str, str] = field(default_factory=dict)
    gpu: bool = False
    program: str | None = None

    def __or__(self, other: "Needs") -> "Needs":
        return Needs({**self.modules, **other.modules}, self.gpu or other.gpu, self.program or other.program)

    def missing(self) -> str | None:
        """Why it cannot be had here, if so."""
        for name, distribution in self.modules.items():
            try:
                import_module(name)
            except (ImportError, OSError, RuntimeError) as error:  # torchcodec raises the last where it finds no FFmpeg
                return f"{distribution}: {str(error).strip().splitlines()[0]}"
        if self.program and not which(self.program):
            return f"{self.program}: is not on the PATH"
        return NEEDS_GPU if self.gpu and not gpu_names() else None

    def versions(self) -> str:
        programs = [_told(self.program)] if self.program else []
        return ", ".join([*programs, *(f"{distribution} {version(distribution)}" for distribution in self.modules.values())])


def _told(program: str) -> str:
    """The program and its version, as it says them: `ffmpeg 7.1`."""
    told = subprocess.run([program, "-version"], check=True, capture_output=True, text=True).stdout
    return " ".join(word for word in told.split()[:3] if word != "version")


NOTHING = Needs()
GPU = Needs(gpu=True)
TORCH = Needs({"torchvision": "torchvision", "torchaudio": "torchaudio"})
