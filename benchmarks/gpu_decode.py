"""The checks of `make gpu-check` of the GPU itself and its decoders: what they answer, and how fast they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import product

import numpy as np

from xkd.benchmarks.decode import Work, dali_pipeline, encoded_files, measure_work
from xkd.benchmarks.findings import Context, Findings
from xkd.benchmarks.gpu_media import SIZES, MediaSet
from xkd.benchmarks.harness import measure
from xkd.pipelines.media import nvdec

NVDEC_CODECS = ("vp9", "h264", "hevc")
CPU_CODECS = ("vp9", "mjpeg", "jpeg")
# (pipelines, threads of each): does NVDEC need several pipelines to be kept busy, or do threads of one do?
# Those that tell most come first, in case that there is no time for all.
LAYOUTS = ((4, 4), (1, 4), (7, 4), (2, 4), (1, 1), (1, 16))
TIMING = {"rounds": 3, "warmup": 1, "budget_seconds": 3}
CLIPS_A_PIPELINE = 32
# The same VP9 decodes to the same YUV everywhere; what may differ is the way to RGB (2 levels in the mean between CPU decoders).
LARGEST_MEAN_DIFFERENCE = 4.0


def host(context: Context) -> Iterator[Findings]:
    """What the host and the installed packages are."""
    yield Findings(facts=[{"what": name, "value": value} for name, value in context.recorder.machine.items()])


def torch_copies(context: Context) -> Iterator[Findings]:
    """torch sees the device, its copies are right, and how fast they are."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    yield Findings(
        facts=[
            {"what": "device", "value": torch.cuda.get_device_name()},
            {"what": "compute capability", "value": f"{major}.{minor}"},
            {"what": "CUDA of torch", "value": torch.version.cuda},
        ]
    )
    on_device = torch.rand(2**28, device="cuda")
    on_host = torch.rand(2**26).pin_memory()
    # A copy on the device reads and writes each byte.
    for case, source, moved_bytes in (("on device", on_device, 2 * on_device.nbytes), ("host to device", on_host, on_host.nbytes)):
        target = torch.empty(source.shape, device="cuda")
        rows = context.recorder.rows(
            f"copy {case}", "GB", measure(partial(_copies, source, target, moved_bytes), ["torch"], device="cuda")
        )
        equal = torch.equal(target.cpu(), source.cpu())
        yield Findings(rows=rows, wrong=[] if equal else [f"copy {case}: the copy differs from its source"])


def nvdec_capabilities(context: Context) -> Iterator[Findings]:
    """What NVDEC says it decodes of 8-bit 4:2:0 video."""
    for codec in nvdec.CODECS:
        answer = nvdec.capabilities(codec)
        lacks = codec in NVDEC_CODECS and not answer.supported
        yield Findings(facts=[asdict(answer)], wrong=[f"NVDEC here has no {codec}"] if lacks else [])


def nvdec_one_clip(context: Context) -> Iterator[Findings]:
    """DALI decodes one VP9 clip on NVDEC to the expected shape."""
    frames = decoded(Work(context.media, "vp9", 128, clips=1, batch=1), "mixed")
    expected = (1, MediaSet.open(context.media).num_frames, *SIZES[128], 3)
    wrong = [] if frames.shape == expected else [f"decoded to shape {frames.shape}, not {expected}"]
    yield Findings(facts=[{"what": "clips, frames, height, width, channels", "value": frames.shape}], wrong=wrong)


def frames_agree(context: Context) -> Iterator[Findings]:
    """How far frames decoded on the GPU lie from those decoded on the CPU.

    VP9 and JPEG against the same file on the CPU, H.264 and HEVC, which DALI reads on the GPU only, against the JPEGs of the same
    frames: that difference includes what both compressions lost.
    """
    for size, codec in context.in_time(product(SIZES, (*NVDEC_CODECS, "jpeg"))):
        refusal = codec in NVDEC_CODECS and nvdec.capabilities(codec).refuses(*SIZES[size])
        if refusal:
            yield Findings(facts=[{"codec": codec, "size": size, "note": refusal}])
            continue
        reference = codec if codec in CPU_CODECS else "jpeg"
        work, reference_work = (Work(context.media, name, size, clips=8) for name in (codec, reference))
        yield compare(codec, size, reference, decoded(work, "mixed"), decoded(reference_work, "cpu"))


def compare(codec: str, size: int, reference: str, on_gpu: np.ndarray, on_cpu: np.ndarray) -> Findings:
    """Compares frames [B, T, H, W, 3]: their difference in levels, and whether each is nearest to the one of its own number."""
    difference = np.abs(on_gpu.astype(np.int16) - on_cpu)
    moved = misplaced_frames(on_gpu, on_cpu)
    fact = {
        "codec": codec,
        "size": size,
        "against": f"{reference} on the CPU",
        "mean difference": round(float(difference.mean()), 3),
        "largest": int(difference.max()),
        "misplaced frames": moved,
    }
    wrong = [f"{codec} {size}: {moved} frames are nearer to a neighbour of the frame they should be"] if moved else []
    if codec == reference and difference.mean() > LARGEST_MEAN_DIFFERENCE:
        wrong.append(f"{codec} {size}: differs from the CPU by {difference.mean():.2f} levels, more than {LARGEST_MEAN_DIFFERENCE}")
    return Findings(facts=[fact], wrong=wrong)


def misplaced_frames(frames: np.ndarray, reference: np.ndarray) -> int:
    """How many frames [B, T, H, W, 3] are nearer to the frame before or after than to the one of their own number."""

    def distance(own, other):
        return np.abs(own.astype(np.int16) - other).mean((2, 3, 4))

    own = distance(frames, reference)
    misplaced = np.zeros(own.shape, bool)
    misplaced[:, 1:] |= distance(frames[:, 1:], reference[:, :-1]) < own[:, 1:]
    misplaced[:, :-1] |= distance(frames[:, :-1], reference[:, 1:]) < own[:, :-1]
    return int(misplaced.sum())


def decode_nvdec(context: Context) -> Iterator[Findings]:
    """Clips a second of video on NVDEC, by codec, size and layout."""
    answers = {codec: nvdec.capabilities(codec) for codec in NVDEC_CODECS}
    for (pipelines, threads), codec, size in context.in_time(product(LAYOUTS, NVDEC_CODECS, SIZES)):
        refusal = answers[codec].refuses(*SIZES[size])
        if refusal:
            yield Findings(facts=[{"codec": codec, "size": size, "pipelines": pipelines, "threads": threads, "note": refusal}])
        else:
            yield timed(context, _spread(context, codec, size, pipelines, threads), "dali-gpu")


def decode_nvjpeg(context: Context) -> Iterator[Findings]:
    """Clips a second of the same frames as JPEG files through nvJPEG, by size and layout."""
    for (pipelines, threads), size in context.in_time(product(LAYOUTS, SIZES)):
        yield timed(context, _spread(context, "jpeg", size, pipelines, threads), "dali-gpu")


def timed(context: Context, work: Work, provider: str) -> Findings:
    """The measurement of a piece of work; one that fails does not stop those after it."""
    try:
        return Findings(rows=measure_work(work, [provider], context.recorder, **TIMING))
    except RuntimeError as error:
        return Findings(wrong=[f"{work.case}: {error}"])


def decoded(work: Work, device: str) -> np.ndarray:
    """The frames [B, T, H, W, 3] of the clips that `work` asks for."""
    files = encoded_files(work)
    pipeline = dali_pipeline(work, files, device)
    batches = [np.array(pipeline.run()[0].as_cpu().as_array()) for _ in range(work.batches)]
    frames = np.concatenate(batches)
    return frames.reshape(-1, MediaSet.open(work.media).num_frames, *frames.shape[-3:])


@contextmanager
def _copies(source, target, moved_bytes, provider):
    """Rounds of 20 copies; the items are gigabytes."""

    def run_round(lap):
        for _ in range(20):
            target.copy_(source, non_blocking=True)
        return 20 * moved_bytes / 1e9

    yield run_round


def _spread(context, codec, size, pipelines, threads):
    return Work(context.media, codec, size, clips=CLIPS_A_PIPELINE * pipelines, pipelines=pipelines, threads=threads)
