"""Single stages of loading as several libraries do them, on the same clips: what ours could cost if it were made of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from xkd.benchmarks.harness import Round
from xkd.benchmarks.needs import NOTHING, TORCH, Needs
from xkd.benchmarks.peers.webdataset import decode_with_pyav, decode_with_torchcodec
from xkd.benchmarks.peers.work import SEED, Work
from xkd.pipelines.samples.source import Example, Source
from xkd.pipelines.shards.read import read_audio, read_video
from xkd.pipelines.views.presets import PRESETS

CLIPS = 16  # whose decoded frames are kept, 2 MB each

Part = Callable[[], object]


@dataclass(frozen=True)
class Stage:
    """`prepare` does what comes before the stage and returns what is timed; it handles CLIPS clips."""

    prepare: Callable[[Work], Part]
    needs: Needs = NOTHING


@contextmanager
def setup(work: Work, name: str) -> Iterator[Round]:
    """A stage of the table as one round of a benchmark."""
    run = STAGES[name].prepare(work)

    def run_round(lap) -> int:
        run()
        return CLIPS

    yield run_round


def decoding(decode: Callable, work: Work) -> Part:
    """Whole files to the frames of a clip."""
    clips, fps = work.clips(0), work.shard_set.manifest.video.fps
    videos = [(read_video(sample).tobytes(), clips[sample.key]) for sample in work.samples[:CLIPS]]
    return lambda: [decode(video, clip, fps) for video, clip in videos]


def resizing_with_torch(work: Work) -> Part:
    """Crops in whole pixels, of frames as they are decoded (channels last), with the filter that DALI has too."""
    sizes, cuts = views(work), list(zip(decoded(work), examples(work), strict=True))

    def run():
        for frames_THWC, example in cuts:
            for name, size in sizes.items():
                y0, x0, y1, x1 = crop(example, name, frames_THWC.shape[1:3])
                part = some_frames(frames_THWC, example, name, work)[:, y0:y1, x0:x1].permute(0, 3, 1, 2)
                F.interpolate(part, size=(size, size), mode="bilinear", antialias=True)

    return run


def resizing_with_dali(work: Work) -> Part:
    """The operator of the graph, on the same frames and crops."""
    from nvidia.dali import fn, pipeline_def, types

    sizes, cuts = views(work), list(zip(decoded(work), examples(work), strict=True))
    fed = {name: [some_frames(frames_THWC, example, name, work).numpy() for frames_THWC, example in cuts] for name in sizes}

    threads = {"num_threads": work.data.pipeline_threads, "device_id": None, "prefetch_queue_depth": 1}

    @pipeline_def(batch_size=CLIPS, exec_dynamic=True, **threads)
    def graph():
        return tuple(
            fn.resize(
                fn.external_source(name=name, dtype=types.UINT8, ndim=4, layout="FHWC", no_copy=True),
                **{end: fn.external_source(name=f"{name}.{end}", dtype=types.FLOAT, ndim=1) for end in ("roi_start", "roi_end")},
                roi_relative=True,
                size=[size, size],
            )
            for name, size in sizes.items()
        )

    pipeline = graph()
    pipeline.build()

    def run():
        for name in sizes:
            pipeline.feed_input(name, fed[name])
            for end in ("roi_start", "roi_end"):
                pipeline.feed_input(f"{name}.{end}", [example.inputs[f"{name}.{end}"] for _, example in cuts])
        pipeline.schedule_run()
        pipeline.share_outputs()
        pipeline.release_outputs()

    return run


def sound_with_torchaudio(work: Work) -> Part:
    from xkd.benchmarks.peers.torch_views import SoundViews

    make, clips = SoundViews(work.data), work.clips(0)
    sounds = [
        torch.from_numpy(read_audio(sample, clips[sample.key].samples.start, len(clips[sample.key].samples)))
        for sample in work.samples[:CLIPS]
    ]
    return lambda: [make(sound) for sound in sounds]


def examples(work: Work) -> list[Example]:
    preset = PRESETS["pretrain"]
    source = Source(work.shard_set, preset.narrow(work.data), preset, SEED)
    return [source(0, sample.id) for sample in work.samples[:CLIPS]]


def decoded(work: Work) -> list[torch.Tensor]:
    """The frames of the clips [T, H, W, 3], in PyAV's colours."""
    decode = decoding(decode_with_pyav, work)
    return [frames_TCHW.permute(0, 2, 3, 1) for frames_TCHW in decode()]


def views(work: Work) -> dict[str, int]:
    """The size of each video view, by its name in the graph."""
    video = work.data.video
    local = {f"video_local{place}": video.local_view.size for place in range(video.local_view.count)}
    return {"video_global0": video.global_view.size} | local


def some_frames(frames_THWC: torch.Tensor, example: Example, name: str, work: Work) -> torch.Tensor:
    if "local" not in name:
        return frames_THWC
    first = int(example.inputs[f"{name}.first_frame"])
    return frames_THWC[first : first + work.data.video.local_view.frames]


def crop(example: Example, name: str, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The view's crop (y0, x0, y1, x1) in whole pixels, from left to right."""
    ends = np.stack([example.inputs[f"{name}.{end}"] for end in ("roi_start", "roi_end")]) * shape
    (y0, x0), (y1, x1) = np.rint(np.sort(ends, axis=0)).astype(int).tolist()
    return y0, x0, max(y1, y0 + 1), max(x1, x0 + 1)


STAGES = {
    "decode: torchcodec": Stage(partial(decoding, decode_with_torchcodec), Needs({"torchcodec.decoders": "torchcodec"})),
    "decode: pyav": Stage(partial(decoding, decode_with_pyav)),
    "resize: dali": Stage(resizing_with_dali),
    "resize: torch": Stage(resizing_with_torch),
    "sound: torchaudio": Stage(sound_with_torchaudio, TORCH),
}
