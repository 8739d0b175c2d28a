"""The table of `make gpu-check`: what is checked, what each check needs, and how long it may take.

A check yields Findings as it goes, so that what it found survives should it crash, hang, or run out of time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from xkd.benchmarks import gpu_decode, gpu_kernels, gpu_loader, gpu_train
from xkd.benchmarks.findings import Context, Findings
from xkd.benchmarks.gpu_media import DESCRIPTION
from xkd.pipelines.media import nvdec

LIMIT_SECONDS = 480  # of all together
MEDIA_SECONDS = 40  # of them, to make the media where none are given


@dataclass(frozen=True)
class Check:
    """One check; `needs` names rows of NEEDS. It may take `limit_seconds`, and what those before it have left of theirs."""

    name: str
    what: str  # it finds out: its row in docs/gpu.md
    needs: tuple[str, ...]
    run: Callable[[Context], Iterator[Findings]]
    limit_seconds: int

    def missing(self, media: Path | None) -> list[str]:
        """Why it cannot run: one reason for each need that is not met."""
        return [f"{need}: {reason}" for need in self.needs if (reason := NEEDS[need](media))]


def _missing_module(name: str, media: Path | None) -> str | None:
    parent = name.rpartition(".")[0]
    return None if (not parent or find_spec(parent)) and find_spec(name) else f"no module {name}"


def _missing_media(media: Path | None) -> str | None:
    if media and (media / DESCRIPTION).is_file():
        return None
    return "none: make them where PyAV is with `python -m xkd.benchmarks.gpu_media --out DIR`, then give --media DIR"


def _missing_gpus(media: Path | None) -> str | None:
    return nvdec.missing_device() or (None if nvdec.device_count() > 1 else "2 or more, and there is one")


NEEDS: dict[str, Callable[[Path | None], str | None]] = {
    "gpu": lambda media: nvdec.missing_device(),
    "gpus": _missing_gpus,
    "nvdec": lambda media: nvdec.missing_library(nvdec.NVDEC_LIBRARY),
    "torch": partial(_missing_module, "torch"),
    "triton": partial(_missing_module, "triton"),
    "dali": partial(_missing_module, "nvidia.dali"),
    "deepspeed": partial(_missing_module, "deepspeed"),
    "pydantic": partial(_missing_module, "pydantic"),
    "timm": partial(_missing_module, "timm"),
    "media": _missing_media,
}

DECODING = ("gpu", "nvdec", "dali", "media")
LOADING = (*DECODING, "torch", "pydantic")
TRAINING = (*LOADING, "triton", "timm", "deepspeed")
KERNELS = ("gpu", "torch", "triton", "pydantic", "timm")

# The most valuable first.
CHECKS: Sequence[Check] = (
    Check("host", "what host and packages are", (), gpu_decode.host, 5),
    Check(
        "torch-copies",
        "torch sees the device; copies are right; GB/s on the device and to it",
        ("gpu", "torch"),
        gpu_decode.torch_copies,
        12,
    ),
    Check(
        "train",
        f"{gpu_train.STEPS} steps of the base network through `deepspeed --module xkd.train`: bf16 and autocast, ZeRO 1 and 2,"
        " kernels of Triton and torch; finite, losses beside each other, clips/s, MFU, share of waiting for data, memory",
        TRAINING,
        gpu_train.train,
        150,
    ),
    Check(
        "nvdec-capabilities",
        "NVDEC answers: codecs, engines, least and largest sizes",
        ("gpu", "nvdec"),
        gpu_decode.nvdec_capabilities,
        5,
    ),
    Check("nvdec-one-clip", "DALI decodes a VP9 clip through NVDEC", DECODING, gpu_decode.nvdec_one_clip, 8),
    Check(
        "kernel-oracles",
        "the kernels against float64 at full size, gradients, `torch.compile`, a whole step",
        KERNELS,
        gpu_kernels.oracles,
        50,
    ),
    Check("kernel-masks", "masks bit for bit those of the CPU", KERNELS, gpu_kernels.masks, 10),
    Check(
        "loader-identical",
        "the loader on the GPU: every sample's views the same, bit for bit, whatever batch size, threads, prefetching, pipelines",
        LOADING,
        gpu_loader.identical,
        20,
    ),
    Check(
        "loader-against-cpu",
        "views of the GPU against the CPU's: levels of colour, log-mel",
        LOADING,
        gpu_loader.against_cpu,
        12,
    ),
    Check(
        "loader-clips",
        "clips/s of the loader by 1, 2, 4, 7 pipelines; how busy NVDEC is; bytes a clip and GB/s from storage",
        LOADING,
        gpu_loader.clips,
        20,
    ),
    Check(
        "bench-step",
        "`xkd bench step`: a step of the base network on batches at hand, by part, beside DDP without DeepSpeed",
        TRAINING,
        gpu_train.bench_step,
        35,
    ),
    Check(
        "decode-nvdec",
        "clips/s of NVDEC: VP9, H.264, HEVC x short side 128, 256 x 1, 2, 4, 7 pipelines of 4 threads, and 1 pipeline of 1 and 16",
        (*DECODING, "torch"),
        gpu_decode.decode_nvdec,
        20,
    ),
    Check(
        "decode-nvjpeg",
        "clips/s of nvJPEG on the same frames",
        ("gpu", "dali", "media", "torch"),
        gpu_decode.decode_nvjpeg,
        8,
    ),
    Check(
        "frames-agree",
        "frames of NVDEC and nvJPEG against the CPU's: levels apart, none lost or shifted",
        DECODING,
        gpu_decode.frames_agree,
        10,
    ),
    Check(
        "kernel-graphs",
        "every op, forward and backward, in a CUDA graph",
        KERNELS,
        gpu_kernels.graphs,
        10,
    ),
    Check(
        "kernel-step-gains",
        "what each kernel gains a whole step",
        KERNELS,
        gpu_kernels.step_gains,
        15,
    ),
    Check(
        "loader-stages", "read, transfer, decode, augment, sound, finish: CPU and wall time a clip", LOADING, gpu_loader.stages, 10
    ),
    Check(
        "bench-scale",
        "`xkd bench scale`: ZeRO 1 and 2 beside DDP, a rank on each GPU",
        (*KERNELS, "deepspeed", "gpus"),
        gpu_train.bench_scale,
        30,
    ),
    Check(
        "kernel-speed",
        "the kernels' times and shares of copy bandwidth, beside eager and `torch.compile`",
        KERNELS,
        gpu_kernels.speed,
        10,
    ),
)
