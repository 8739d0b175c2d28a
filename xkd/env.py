"""Records what a run or a measurement stood on: versions, hardware, commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from xkd import __version__

_CHECKOUT = Path(__file__).resolve().parent.parent
_DISTRIBUTIONS = {
    "torch": ("torch",),
    "deepspeed": ("deepspeed",),
    "dali": ("nvidia-dali-cuda130", "nvidia-dali-cuda120"),
    "av": ("av",),
    "triton": ("triton",),
    "numpy": ("numpy",),
}


def environment() -> dict:
    """Versions, CPU and GPU names, number of CPUs this process may use, and commit; None for what is not there."""
    return {
        "xkd": __version__,
        "python": platform.python_version(),
        **{name: _version(distributions) for name, distributions in _DISTRIBUTIONS.items()},
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "gpus": gpu_names(),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the source: XKD_COMMIT where it is set (for hosts that get a copy without history), else what git says.

    "-dirty" follows when tracked files differ from the commit.
    """
    if os.environ.get("XKD_COMMIT"):
        return os.environ["XKD_COMMIT"]
    if not (_CHECKOUT / ".git").exists():
        return None
    git = ("git", "-C", str(_CHECKOUT))
    head = _output(*git, "rev-parse", "HEAD")
    return f"{head}-dirty" if head and _output(*git, "status", "--porcelain", "--untracked-files=no") else head


def cpu_name() -> str | None:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def gpu_names() -> list[str]:
    """Names of the GPUs that the driver lists; asks nvidia-smi, so that no CUDA context is made."""
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return names.splitlines() if names else []


def _version(distributions: tuple[str, ...]) -> str | None:
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
