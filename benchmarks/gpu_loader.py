"""The checks of `make gpu-check` that load clips on the GPU."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from xkd.benchmarks.findings import Context, Findings
from xkd.benchmarks.gpu_media import MediaSet
from xkd.benchmarks.harness import measure

SHORT_SIDE = 128
CLIPS = 512  # of the shards; a media set holds 8 different ones
FEW_CLIPS = 64
BATCH = 32
SHARD_SAMPLES = 64
# Fields of data and the batch size: what must not change any sample's views.
LAYOUTS = (
    {"batch_size": 16},
    {"batch_size": 64},
    {"batch_size": 16, "num_threads": 4},
    {"batch_size": 16, "pipelines": 2},
    {"batch_size": 8, "pipelines": 4, "prefetch": 6, "num_threads": 2},
)
PIPELINES = (4, 1, 7, 2)  # those that tell most come first
VIEWS = ("video_global", "video_local", "audio_global", "audio_local")
TIMING = {"rounds": 3, "warmup": 1, "budget_seconds": 10}
LARGEST_MEAN_LEVELS = 4.0  # as between two decoders on the CPU, doubled
LARGEST_SOUND = 1e-3  # in the normalised log domain, in the mean


@contextmanager
def shards_of(media: Path, clips: int) -> Iterator[Path]:
    """A temporary shard folder of that many VP9 clips of the media set: the same ones again and again."""
    from xkd.benchmarks.linked_shards import repeat_shard

    with tempfile.TemporaryDirectory() as folder:
        yield repeat_shard(MediaSet.open(media).shards, Path(folder) / "shards", clips)


def identical(context: Context) -> Iterator[Findings]:
    """Whether batch size, threads, prefetching and pipelines change a sample's views."""
    with shards_of(context.media, FEW_CLIPS) as shards:
        yield from same_everywhere(shards, context.device, LAYOUTS[0], context.in_time(LAYOUTS[1:]))


def same_everywhere(shards: Path, device: str, first: dict, others: Iterable[dict]) -> Iterator[Findings]:
    """Compares the views of every sample, bit for bit, with those of the first layout."""
    reference = views_by_sample(shards, device, first)
    for layout in others:
        found = views_by_sample(shards, device, layout)
        other = [sample for sample in reference if not all(map(np.array_equal, found[sample], reference[sample]))]
        wrong = [f"{layout}: {len(other)} of {len(reference)} samples differ from those of {first}"] if other else []
        yield Findings(facts=[{"layout": str(layout), "samples": len(found), "that differ": len(other)}], wrong=wrong)


def views_by_sample(shards: Path, device: str, layout: dict, preset: str = "pretrain") -> dict[int, list[np.ndarray]]:
    """The views of an epoch, by the number of the sample: keys repeat in shards of links."""
    with _loader(shards, device, preset=preset, **layout) as loader:
        rows = {}
        for batch in loader.epoch(0):
            views = [getattr(batch, name).cpu().numpy() for name in VIEWS if getattr(batch, name) is not None]
            rows |= {sample: [view[row] for view in views] for row, sample in enumerate(batch.sample_ids.tolist())}
    return rows


def against_cpu(context: Context) -> Iterator[Findings]:
    """How far views made on the GPU lie from those made on the CPU."""
    with shards_of(context.media, FEW_CLIPS) as shards:
        for preset in ("pretrain", "eval"):
            on_gpu, on_cpu = (views_by_sample(shards, device, {"batch_size": BATCH}, preset) for device in (context.device, "cpu"))
            yield difference(preset, on_gpu, on_cpu)


def difference(preset: str, on_gpu: dict[int, list[np.ndarray]], on_cpu: dict[int, list[np.ndarray]]) -> Findings:
    """Pictures in levels of 255 (of the widest colour), sounds in the normalised log domain."""
    facts, wrong = [], []
    names = VIEWS if preset == "pretrain" else VIEWS[::2]
    for place, name in enumerate(names):
        apart = np.stack([np.abs(on_gpu[sample][place] - on_cpu[sample][place]) for sample in on_cpu])
        scale, limit = (255 * 0.229, LARGEST_MEAN_LEVELS) if "video" in name else (1.0, LARGEST_SOUND)
        mean, largest = float(apart.mean()) * scale, float(apart.max()) * scale
        facts.append({"preset": preset, "view": name, "mean difference": round(mean, 5), "largest": round(largest, 5)})
        if mean > limit:
            wrong.append(f"{preset} {name}: differs from the CPU by {mean:.4f}, more than {limit}")
    return Findings(facts=facts, wrong=wrong)


def clips(context: Context) -> Iterator[Findings]:
    """Clips a second of the loader by number of pipelines, how busy NVDEC is meanwhile, and what the storage must give for it."""
    with shards_of(context.media, CLIPS) as shards:
        clip_bytes = sum(path.stat().st_size for path in shards.glob("*.tar")) / CLIPS
        for pipelines in context.in_time(PIPELINES):
            layout = {"batch_size": BATCH, "pipelines": pipelines, "prefetch": 2 * pipelines, "num_threads": 4}
            with decoder_use() as used:
                (total,) = measure(
                    partial(_loading, shards, layout, context.device), ["xkd"], **TIMING, device=context.torch_device
                )
            yield Findings(
                rows=context.recorder.rows(f"loader pipelines={pipelines} threads=4 batch={BATCH}", "clip", [total]),
                facts=[
                    {
                        "pipelines": pipelines,
                        "clips/s": round(total.items_per_s),
                        "NVDEC, % busy": used[0] if used else "not obtained: nvidia-smi told nothing",
                        "stored bytes a clip": round(clip_bytes),
                        "GB/s read": round(total.items_per_s * clip_bytes / 1e9, 3),
                    }
                ],
            )


def stages(context: Context) -> Iterator[Findings]:
    """What each stage of loading costs a clip on the GPU."""
    from xkd.pipelines.loading.stages import profile

    with shards_of(context.media, 4 * BATCH) as shards:
        for stage, cost in profile(*_opened(shards), batch_size=BATCH, batches=4, device=context.device).items():
            milliseconds = {"CPU-ms a clip": 1000 * cost.cpu_seconds, "ms a clip": 1000 * cost.wall_seconds}
            yield Findings(facts=[{"stage": stage} | {name: round(value, 3) for name, value in milliseconds.items()}])


@contextmanager
def decoder_use() -> Iterator[list[float]]:
    """Yields a list that, on leaving, holds the mean use of NVDEC in per cent, where nvidia-smi tells it."""
    used: list[float] = []
    if not shutil.which("nvidia-smi"):
        yield used
        return
    command = ["nvidia-smi", "--query-gpu=utilization.decoder", "--format=csv,noheader,nounits", "--id=0", "--loop-ms=200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield used
        process.terminate()
        output, _ = process.communicate()
    used += mean_reading(output)


def mean_reading(output: str) -> list[float]:
    """The mean of the lines that are numbers, if there are any."""
    readings = [int(line) for line in output.splitlines() if line.strip().isdigit()]
    return [round(sum(readings) / len(readings), 1)] if readings else []


@contextmanager
def _loading(shards: Path, layout: dict, device: str, provider: str):
    """Epochs, one a round."""
    with _loader(shards, device, **layout) as loader:
        epochs = count()
        yield lambda lap: sum(len(batch.keys) for batch in loader.epoch(next(epochs)))


def _loader(shards: Path, device: str, *, batch_size: int, preset: str = "pretrain", **changes):
    from xkd.pipelines.loader import Loader

    shard_set, config = _opened(shards, **changes)
    return Loader(shard_set, config, preset=preset, batch_size=batch_size, device=device)


def _opened(shards: Path, **changes):
    """The shards, and the method's views of them."""
    from xkd.pipelines.config import DataConfig
    from xkd.pipelines.shards.index import ShardSet

    return ShardSet.open(shards), DataConfig(train=shards, **changes)
