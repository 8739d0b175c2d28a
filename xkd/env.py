"""Records what a run or a measurement stood on: versions, hardware, commit; and what else a report of a bug needs."""

import os
import platform
import subprocess
from collections.abc import Mapping
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
_OTHERS = ("torchaudio", "torchvision", "timm", "webdataset", "safetensors", "pydantic", "fsspec")
# Variables that change how a run goes, by how they begin; and words in the names of those whose values are nobody's business.
_PREFIXES = ("CUDA_", "DEEPSPEED_", "DS_", "GLOO_", "LOCAL_", "MASTER_", "NCCL_", "NVIDIA_", "OMP_", "PYTHON", "PYTORCH_")
_PREFIXES += ("RANK", "SLURM_", "TORCH", "TRITON_", "UCX_", "WORLD_SIZE", "XKD_")
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "JWT")


def environment() -> dict:
    """Versions, CPU and GPU names, number of CPUs this process may use, memory, and commit; None for what is not there."""
    return {
        "xkd": __version__,
        "python": platform.python_version(),
        **{name: _version(distributions) for name, distributions in _DISTRIBUTIONS.items()},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "gpus": gpu_names(),
        "driver": (_of_gpus("driver_version") or [None])[0],
        "commit": commit(),
    }


def bug_report() -> dict:
    """`environment`, other packages, CUDA as torch has it, and the variables that change how a run goes, but for secrets."""
    return {
        **environment(),
        **{name: _version((name,)) for name in _OTHERS},
        "torch_cuda": torch_cuda(),
        "variables": variables(os.environ),
    }


def torch_cuda() -> str:
    """The CUDA and NCCL that torch is built with, and the GPUs it sees; what went wrong where it cannot be asked."""
    try:
        import torch

        if torch.version.cuda is None:
            return "none: torch is built for CPUs"
        nccl = ".".join(map(str, torch.cuda.nccl.version()))
        return f"{torch.version.cuda}, NCCL {nccl}, {torch.cuda.device_count()} GPUs seen"
    except (ImportError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def variables(environ: Mapping[str, str]) -> list[str]:
    """NAME=value of those that change how a run goes, in order."""
    shown = sorted(name for name in environ if name.startswith(_PREFIXES))
    return [f"{name}={'(hidden)' if any(word in name for word in _SECRET) else environ[name]}" for name in shown]


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
    """Names of the GPUs that the driver lists."""
    return _of_gpus("name")


def _of_gpus(field: str) -> list[str]:
    """Something of every GPU that the driver lists; asks nvidia-smi, so that no CUDA context is made."""
    answer = _output("nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader")
    return answer.splitlines() if answer else []


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
