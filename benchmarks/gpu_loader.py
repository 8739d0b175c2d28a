"""The checks of `make gpu-check` that load clips on the GPU, and train with them."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count, cycle, islice
from pathlib import Path

import numpy as np

from xkd.benchmarks.findings import Context, Findings
from xkd.benchmarks.gpu_media import FPS, SIZES, MediaSet
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
PIPELINES = (1, 2, 4, 7)
VIEWS = ("video_global", "video_local", "audio_global", "audio_local")
LARGEST_MEAN_LEVELS = 4.0  # as between two decoders on the CPU, doubled
LARGEST_SOUND = 1e-3  # in the normalised log domain, in the mean
AIM = 1.2  # clips a second of the loader, in those that a step takes
STEPS = 10


@contextmanager
def shards_of(media: Path, clips: int) -> Iterator[Path]:
    """A temporary shard folder of that many VP9 clips of the media set (the same ones again and again), with noise for sound."""
    from xkd.benchmarks.random_shards import CLASSES, PROFILE, noise_wav, write_samples
    from xkd.pipelines.convert.sample import Converted

    files, media_set = MediaSet.open(media).videos("vp9", SHORT_SIDE), MediaSet.open(media)
    bits, rate = np.random.Generator(np.random.PCG64(0)), PROFILE.audio.sample_rate
    length = media_set.num_frames * rate // FPS

    def sample(number: int) -> Converted:
        video, sound = files[number % len(files)].tobytes(), noise_wav(bits, length)
        return Converted(f"clip-{number:06d}", CLASSES, video, sound, b"{}", media_set.num_frames, *SIZES[SHORT_SIDE], length, rate)

    with tempfile.TemporaryDirectory() as folder:
        yield write_samples(Path(folder) / "shards", map(sample, range(clips)), num_samples=clips, shard_samples=SHARD_SAMPLES)


def identical(context: Context) -> Iterator[Findings]:
    """Whether batch size, threads, prefetching and pipelines change a sample's views."""
    with shards_of(context.media, FEW_CLIPS) as shards:
        yield from same_everywhere(shards, "gpu", LAYOUTS)


def same_everywhere(shards: Path, device: str, layouts: Sequence[dict]) -> Iterator[Findings]:
    """Compares the views of every sample, bit for bit, with those of the first layout."""
    reference = views_by_sample(shards, device, layouts[0])
    for layout in layouts[1:]:
        found = views_by_sample(shards, device, layout)
        other = [key for key in reference if not all(map(np.array_equal, found[key], reference[key]))]
        wrong = [f"{layout}: {len(other)} of {len(reference)} samples differ from those of {layouts[0]}"] if other else []
        yield Findings(facts=[{"layout": str(layout), "samples": len(found), "that differ": len(other)}], wrong=wrong)


def views_by_sample(shards: Path, device: str, layout: dict, preset: str = "pretrain") -> dict[str, list[np.ndarray]]:
    with _loader(shards, device, preset=preset, **layout) as loader:
        rows = {}
        for batch in loader.epoch(0):
            views = [getattr(batch, name).cpu().numpy() for name in VIEWS if getattr(batch, name) is not None]
            rows |= {key: [view[row] for view in views] for row, key in enumerate(batch.keys)}
    return rows


def against_cpu(context: Context) -> Iterator[Findings]:
    """How far views made on the GPU lie from those made on the CPU."""
    with shards_of(context.media, FEW_CLIPS) as shards:
        for preset in ("pretrain", "eval"):
            on_gpu, on_cpu = (views_by_sample(shards, device, {"batch_size": BATCH}, preset) for device in ("gpu", "cpu"))
            yield difference(preset, on_gpu, on_cpu)


def difference(preset: str, on_gpu: dict[str, list[np.ndarray]], on_cpu: dict[str, list[np.ndarray]]) -> Findings:
    """Pictures in levels of 255 (of the widest colour), sounds in the normalised log domain."""
    facts, wrong = [], []
    names = VIEWS if preset == "pretrain" else VIEWS[::2]
    for place, name in enumerate(names):
        apart = np.stack([np.abs(on_gpu[key][place] - on_cpu[key][place]) for key in on_cpu])
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
        for pipelines in PIPELINES:
            layout = {"batch_size": BATCH, "pipelines": pipelines, "prefetch": 2 * pipelines, "num_threads": 4}
            with decoder_use() as used:
                (total,) = measure(partial(_loading, shards, layout), ["xkd"], rounds=3, warmup=1, device="cuda", budget_seconds=30)
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
        for stage, cost in profile(*_opened(shards), batch_size=BATCH, batches=4, device="gpu").items():
            milliseconds = {"CPU-ms a clip": 1000 * cost.cpu_seconds, "ms a clip": 1000 * cost.wall_seconds}
            yield Findings(facts=[{"stage": stage} | {name: round(value, 3) for name, value in milliseconds.items()}])


def step_wait(context: Context) -> Iterator[Findings]:
    """The default network's step (as it is: neither compiled nor in bf16): its share of waiting, and how much faster loading is."""
    from xkd.train.config import PretrainConfig

    with shards_of(context.media, CLIPS) as shards, tempfile.TemporaryDirectory() as run_dir:
        config = PretrainConfig(run_dir=run_dir, data={"train": shards, "min_seconds": 0}, train={"global_batch": BATCH})
        yield from fed_steps(config, {"pipelines": 4, "prefetch": 8, "num_threads": 4})


def fed_steps(config, layout: dict, steps: int = STEPS) -> Iterator[Findings]:
    """Clips a second of training on batches at hand and from the loader, of the loader alone, and by how much it is the faster."""
    import torch.distributed as dist

    from xkd.pipelines.loader import Loader
    from xkd.pipelines.shards.index import ShardSet
    from xkd.train.distributed import claim_device, find_place
    from xkd.train.engine import join_process_group
    from xkd.train.pretraining import Pretraining
    from xkd.train.trainer import Trainer

    place, batch = find_place(), config.train.global_batch
    device = claim_device(place)
    join_process_group()
    try:
        data = config.data.model_copy(update=layout)
        with Loader(ShardSet.open(data.train), data, preset="pretrain", batch_size=batch, device=device) as loader:
            trainer, numbers = Trainer(Pretraining(config, place, steps_per_epoch=len(loader))), count()
            at_hand = cycle(list(islice(loader.epoch(0), 2)))
            from_loader = chain.from_iterable(map(loader.epoch, count(1)))

            def train(one):
                trainer.step(one, next(numbers))

            speed = {}
            for name, batches, use in (
                ("a step on batches at hand", at_hand, train),
                ("a step fed by the loader", from_loader, train),
                ("the loader alone", from_loader, lambda one: one.video_global.sum().item()),
            ):
                _use(batches, use, 3)  # to warm up
                waited, start = loader.wait_seconds, time.perf_counter()
                _use(batches, use, steps)
                seconds = time.perf_counter() - start
                share, speed[name] = (loader.wait_seconds - waited) / seconds, steps * batch / seconds
                yield Findings(facts=[{"what": name, "clips/s": round(speed[name], 1), "share of waiting": round(share, 3)}])
        loading, step = speed["the loader alone"], speed["a step on batches at hand"]
        yield Findings(facts=[{"what": f"loader / step (aim: {AIM})", "clips/s": round(loading / step, 2)}])
    finally:
        dist.destroy_process_group()


def _use(batches: Iterator, use: Callable, number: int) -> None:
    for batch in islice(batches, number):
        use(batch)


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
def _loading(shards: Path, layout: dict, provider: str):
    """Epochs, one a round."""
    with _loader(shards, "gpu", **layout) as loader:
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
