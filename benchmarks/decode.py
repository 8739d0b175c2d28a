"""Clips a second of decoding whole short clips to RGB frames: DALI on the CPU and on the GPU, PyAV, torchcodec."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from xkd.benchmarks import command, gpu_media
from xkd.benchmarks.gpu_media import MediaSet
from xkd.benchmarks.harness import Round
from xkd.benchmarks.needs import GPU, NOTHING, Needs
from xkd.benchmarks.results import Recorder, Row

# What each provider can read. "jpeg" is every frame as a file of its own, a clip being that many pictures.
READS = {
    "dali-cpu": ("vp9", "mjpeg", "jpeg"),
    "dali-gpu": ("vp9", "h264", "hevc", "jpeg"),
    "pyav": ("vp9", "h264", "hevc", "mjpeg"),
    "torchcodec": ("vp9", "h264", "hevc", "mjpeg"),
}
NEEDS = {"dali-gpu": GPU, "torchcodec": Needs({"torchcodec.decoders": "torchcodec"})}
CODECS = ("vp9", "h264", "hevc", "mjpeg", "jpeg")


@dataclass(frozen=True)
class Work:
    """What a round decodes: at least `clips` clips in whole batches, spread over the pipelines; the set's files are repeated."""

    media: Path
    codec: str
    short_side: int
    clips: int = 200
    batch: int = 8
    pipelines: int = 1
    threads: int = 1  # of each pipeline

    @property
    def case(self) -> str:
        return f"codec={self.codec} size={self.short_side} pipelines={self.pipelines} threads={self.threads} batch={self.batch}"

    @property
    def batches(self) -> int:
        """Batches of each pipeline."""
        return -(-self.clips // (self.pipelines * self.batch))


@contextmanager
def setup(work: Work, provider: str) -> Iterator[Round]:
    """The decoder `provider`, ready to decode `work` once a round."""
    files = encoded_files(work)
    if provider in _FILE_DECODERS:
        yield partial(_decode_files, _FILE_DECODERS[provider], work, files)
    else:
        pipelines = [
            dali_pipeline(work, files, device={"dali-cpu": "cpu", "dali-gpu": "mixed"}[provider]) for _ in range(work.pipelines)
        ]
        yield partial(_decode_with_dali, work, pipelines)


def encoded_files(work: Work) -> list[list[np.ndarray]]:
    """The encoded files of each clip: one video, or all its pictures."""
    media = MediaSet.open(work.media)
    if work.codec == "jpeg":
        return media.pictures(work.short_side)
    return [[video] for video in media.videos(work.codec, work.short_side)]


def dali_pipeline(work: Work, files: Sequence[Sequence[np.ndarray]], device: str):
    """A pipeline that decodes `work.batches` batches and then ends; its one output holds videos, or pictures for "jpeg"."""
    from nvidia.dali import Pipeline, fn, types

    clips = _Repeated(files, work)
    device_id = None if device == "cpu" else 0
    pipeline = Pipeline(clips.batch_size, work.threads, device_id, prefetch_queue_depth=2)
    with pipeline:
        encoded = fn.external_source(source=clips, cycle="raise", dtype=types.UINT8, ndim=1)
        if work.codec == "jpeg":
            decoded = fn.decoders.image(encoded, device=device, output_type=types.RGB)
        else:
            # Pinned threads would put every pipeline's first thread on the same core.
            decoded = fn.decoders.video(encoded, device=device, affine=False)
        pipeline.set_outputs(decoded)
    pipeline.build()
    return pipeline


def measure_work(work: Work, providers: Sequence[str], recorder: Recorder, **settings) -> list[Row]:
    """Measures the providers in turn on one piece of work; one that cannot run here has a row with the reason."""
    needs = {provider: NEEDS.get(provider, NOTHING) for provider in providers}
    device = "cuda" if "dali-gpu" in providers and GPU.missing() is None else "cpu"
    return command.measured(recorder, work.case, "clip", partial(setup, work), needs, device=device, **settings)


class _Repeated:
    """Batches of encoded files, the set repeated until there are enough, as an iterable that starts anew each time."""

    def __init__(self, files, work):
        self._files, self._work = files, work
        self.batch_size = work.batch * len(files[0])

    def __iter__(self):
        for number in range(self._work.batches):
            first = number * self._work.batch
            clips = [self._files[(first + offset) % len(self._files)] for offset in range(self._work.batch)]
            yield [file for clip in clips for file in clip]


def _decode_with_dali(work, pipelines, lap):
    for _ in range(work.batches):
        for pipeline in pipelines:
            pipeline.run()
    for pipeline in pipelines:
        pipeline.reset()
    return work.batches * len(pipelines) * work.batch


def _decode_files(decode, work, files, lap):
    count = work.batches * work.pipelines * work.batch
    for number in range(count):
        (video,) = files[number % len(files)]
        decode(video)
    return count


def _with_pyav(video):
    import av

    with av.open(io.BytesIO(video.tobytes())) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            frame.to_ndarray(format="rgb24")


def _with_torchcodec(video):
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(video.tobytes(), num_ffmpeg_threads=1)
    decoder.get_frames_in_range(0, len(decoder))


_FILE_DECODERS = {"pyav": _with_pyav, "torchcodec": _with_torchcodec}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("decode", "Decode whole clips to RGB frames.", rounds=5)
    parser.add_argument("--media", type=Path, help="folder made by `python -m xkd.benchmarks.gpu_media` (default: a temporary one)")
    parser.add_argument("--providers", nargs="+", choices=READS, default=list(READS), help="(default: all)")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(gpu_media.SIZES), help="short sides (default 128 256)")
    parser.add_argument("--clips", type=int, default=64, help="clips a round (default 64)")
    parser.add_argument("--pipelines", type=int, default=1, help="DALI pipelines side by side (default 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each pipeline (default 1)")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder, rows = command.recorder("decode", arguments), []
    with ExitStack() as stack:
        media = options.media or gpu_media.write(Path(stack.enter_context(tempfile.TemporaryDirectory()))).folder
        for codec, size in product(CODECS, options.sizes):
            providers = [provider for provider in options.providers if codec in READS[provider]]
            work = Work(media, codec, size, clips=options.clips, pipelines=options.pipelines, threads=options.threads)
            if providers:
                rows += measure_work(work, providers, recorder, rounds=options.rounds, memory=True)
    command.finish(rows, options.csv)
    return 0
