"""Do driver, CUDA, torch and DALI fit each other, and is the video decoder to be had?"""

from collections.abc import Iterator
from pathlib import Path

import torch

from xkd.doctor.context import Context
from xkd.doctor.verdict import Verdict, judged, ok
from xkd.doctor.versions import installed
from xkd.pipelines.media import nvdec

KERNEL_DRIVER = Path("/proc/driver/nvidia/version")
DALI = {"nvidia-dali-cuda130": 13, "nvidia-dali-cuda120": 12}  # the CUDA that a package of DALI is built for
LEAST_FREE = 0.9  # of its memory
NOTHING_TO_CHECK = "run it on a machine with a GPU"
CONTAINER = "start the container with its GPUs: apptainer --nv, docker --gpus all"
VIDEO = "start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility,video (apptainer --nv has it), or install the driver's"


def check(context: Context) -> Iterator[Verdict]:
    """The driver of this process's GPU, and its decoder."""
    missing = nvdec.missing_device()
    if missing and KERNEL_DRIVER.exists():
        yield Verdict("driver", "failed", f"the kernel has an NVIDIA driver, which this process cannot use: {missing}", CONTAINER)
    elif missing:
        yield Verdict("driver", "not checked", f"no GPU, so training runs on the CPU ({missing})", NOTHING_TO_CHECK)
    else:
        wants = {"torch": _major(torch.version.cuda), **{name: cuda for name, cuda in DALI.items() if installed(name)}}
        driver = judge_driver(nvdec.cuda_version(), wants)
        yield driver
        if driver.status == "ok":
            yield from _torch(context)
            yield from _decoder(context)


def judge_driver(driver: tuple[int, int], wants: dict[str, int | None]) -> Verdict:
    """Whether a driver runs what is built for these major versions of CUDA (None: for none); later minor ones it does run."""
    shown = f"{driver[0]}.{driver[1]}"
    without = [name for name, major in wants.items() if major is None]
    newer = [f"{name} is built for {major}" for name, major in wants.items() if major is not None and major > driver[0]]
    if without:
        fix = 'run pip install "xkd-train[cuda13]" without an index of CPU-only packages'
        return Verdict("driver", "failed", f"runs CUDA {shown}, but {' and '.join(without)} is built without CUDA", fix)
    fix = f"install the packages for CUDA {driver[0]} (README, Install), or ask for a newer driver"
    found = f"runs CUDA {shown}" + (f", but {' and '.join(newer)}" if newer else f", {', '.join(wants)} fit")
    return judged("driver", bool(newer), found, fix)


def _torch(context: Context) -> Iterator[Verdict]:
    """Whether torch computes on this process's GPU."""
    try:
        name = torch.cuda.get_device_name()
        right = torch.ones(1000, device="cuda").sum().item() == 1000
        free, total = torch.cuda.mem_get_info()
    except RuntimeError as error:
        fix = "see with nvidia-smi whether the GPU is well and free; a reboot of the node, or another node, helps where it is not"
        yield Verdict("gpu", "failed", str(error).splitlines()[0], fix)
        return
    number = context.place.local_rank
    found = f"{name}, {total / 2**30:.0f} GiB" if right else f"GPU {number}, {name}: a sum is wrong"
    yield judged("gpu", not right, found, "do not use this GPU")
    if free < LEAST_FREE * total:
        found = f"GPU {number}: {free / 2**30:.0f} of {total / 2**30:.0f} GiB are free"
        yield Verdict("gpu memory", "warning", found, "end what else runs on it (nvidia-smi lists it)")


def _decoder(context: Context) -> Iterator[Verdict]:
    if missing := nvdec.missing_library(nvdec.NVDEC_LIBRARY):
        yield Verdict("libnvcuvid", "failed", missing, VIDEO)
        return
    answers = [nvdec.capabilities(codec, context.place.local_rank) for codec in ("vp9", "h264", "hevc")]
    engines = max(answer.engines for answer in answers)
    yield ok("libnvcuvid", f"{engines} engines for {', '.join(answer.codec for answer in answers if answer.supported)}")


def _major(version: str | None) -> int | None:
    return int(version.partition(".")[0]) if version else None
