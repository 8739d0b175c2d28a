"""Clips a second and CPU time a clip of converting files to the form that shards store, verification included."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path

import av
import numpy as np
import psutil

from xkd.benchmarks import command
from xkd.benchmarks.gpu_media import GRAIN, moving_window
from xkd.benchmarks.harness import MIB, Lap, Measurement, Round
from xkd.benchmarks.needs import NOTHING, Needs
from xkd.pipelines.convert.profiles import PROFILES, make_profile
from xkd.pipelines.convert.sample import Converted, convert, convert_all
from xkd.pipelines.convert.sources.item import Item, Location
from xkd.pipelines.media.decode import open_pictures, read_sound
from xkd.pipelines.media.encode import AUDIO_CODECS, CODECS, decoded_shape, encode_video
from xkd.pipelines.shards.manifest import Profile

# The common form of downloaded Kinetics and AudioSet clips.
HEIGHT, WIDTH, FPS, SECONDS, SAMPLE_RATE = 256, 340, 25, 10, 44100
BIT_RATE = 600_000
FFMPEG = "ffmpeg"
PROVIDERS = {
    "convert": "the converter as it is",
    "stages": "the same, stage after stage: parts pictures (decoding and scaling), encode, sound, verify",
    "decode": "decoding the pictures alone, so that scaling is what the part pictures takes more",
    FFMPEG: "the command of that name, for each clip: the same encoders, sizes and rates, and nothing verified",
}
NEEDS = {FFMPEG: Needs(program=FFMPEG)}
STEADY = 10  # stretches of a soak, of which the memory is recorded


@dataclass(frozen=True)
class Work:
    """What a round converts: a file, some times."""

    source: Path
    name: str = "pretrain"
    codec: str = "vp9"
    audio: str = "pcm16"
    clips: int = 4

    @property
    def profile(self) -> Profile:
        return make_profile(self.name, codec=self.codec, audio=self.audio)

    @property
    def item(self) -> Item:
        return Item(Location(self.source), self.source.name, ("label",), "train")

    @property
    def case(self) -> str:
        """What is converted to what, with the bytes of the sample's members; those of the source differ a little each time."""
        source = f"{WIDTH}x{HEIGHT} {FPS} fps {SECONDS} s h264+aac"
        sample = convert(self.item, self.profile)
        stored = f"{self.codec} {len(sample.video) / 1000:.0f} kB + {self.audio} {len(sample.audio) / 1000:.0f} kB"
        return f"{source} to {self.name} {stored}"


@contextmanager
def setup(work: Work, provider: str) -> Iterator[Round]:
    """The provider, ready to convert `work.clips` clips in a round, on one core."""
    with tempfile.TemporaryDirectory() as folder:
        own = {"convert": _convert, "stages": staged, "decode": _decode}
        once = own[provider] if provider in own else _by_ffmpeg(work, Path(folder))

        def run_round(lap: Lap) -> int:
            for _ in range(work.clips):
                once(work, lap)
            return work.clips

        yield run_round


def write_source(path: Path, clip: int = 0) -> Path:
    """A clip like a downloaded one: a window that moves over a photograph, under grain, and stereo noise and tones."""
    rng = np.random.Generator(np.random.Philox(key=clip))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "medium", "threads": "1"})
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", BIT_RATE
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
        for number, clean in enumerate(moving_window(clip, rng, FPS * SECONDS, HEIGHT, WIDTH)):
            picture = np.clip(np.rint(clean + rng.normal(0, GRAIN, clean.shape)), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        seconds = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
        sound = 0.2 * np.sin(2 * np.pi * (300 + 40 * seconds) * seconds) + rng.normal(0, 0.05, (2, len(seconds)))
        frame = av.AudioFrame.from_ndarray(sound.astype(np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(audio.encode(frame))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    return path


def staged(work: Work, lap: Lap) -> tuple[bytes, bytes]:
    """The members (video, audio) that `convert` makes, each stage done before the next begins."""
    profile = work.profile
    form, rate = profile.video, profile.audio.sample_rate
    with open_pictures(work.item.location, fps=form.fps, short_side=form.short_side, multiple=form.multiple) as pictures:
        frames = list(pictures.frames)
    lap("pictures")
    settings = {"codec": form.codec, "fps": form.fps, "gop": form.gop, "quality": form.quality}
    video, count = encode_video(frames, **settings, height=pictures.height, width=pictures.width)
    lap("encode")
    limits = {"start_seconds": pictures.start_seconds, "max_samples": count * rate // form.fps}
    sound, _ = read_sound(work.item.location, sample_rate=rate, **limits)
    audio = AUDIO_CODECS[profile.audio.codec].encode(sound, rate)
    lap("sound")
    assert decoded_shape(video) == (count, pictures.height, pictures.width)
    assert np.array_equal(AUDIO_CODECS[profile.audio.codec].decode(audio)[0], sound)
    lap("verify")
    return video, audio


def soak(work: Work, clips: int) -> Iterator[Measurement]:
    """Converts in one worker process, as `xkd shards write --workers 1` does: its highest memory in each tenth of the clips."""
    size = max(1, clips // STEADY)
    done, peak, start, cpu_start, worker = 0, 0.0, time.perf_counter(), 0.0, None
    with closing(convert_all([work.item] * clips, work.profile, "both", 1)) as results:
        for number, result in enumerate(results, 1):
            assert isinstance(result, Converted), result
            worker = worker or _worker()
            peak = max(peak, worker.memory_info().rss / MIB)
            if number % size == 0 or number == clips:
                wall, cpu = time.perf_counter() - start, sum(worker.cpu_times()[:2])
                times = {"wall_p20_s": wall, "wall_p50_s": wall, "wall_p80_s": wall, "cpu_s": cpu - cpu_start}
                yield Measurement("worker", f"clips {done + 1}-{number}", 1, number - done, **times, peak_mib=peak)
                done, peak, start, cpu_start = number, 0.0, time.perf_counter(), cpu


def _worker() -> psutil.Process:
    """The worker process: of the children, multiprocessing's resource tracker is the other one."""
    return max(psutil.Process().children(), key=lambda process: sum(process.cpu_times()[:2]))


def _convert(work: Work, lap: Lap) -> None:
    result = convert(work.item, work.profile)
    assert isinstance(result, Converted), result


def _by_ffmpeg(work: Work, folder: Path) -> Callable[[Work, Lap], object]:
    from xkd.benchmarks.peers import ffmpeg

    sample = convert(work.item, work.profile)
    return lambda work, lap: ffmpeg.convert(work.source, work.profile, (sample.height, sample.width), folder)


def _decode(work: Work, lap: Lap) -> None:
    with av.open(str(work.source)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("convert", "Convert clips on one core.", rounds=5)
    parser.add_argument("--source", type=Path, help="file to convert (default: a made one of the common form)")
    parser.add_argument("--profile", nargs="+", choices=PROFILES, default=["pretrain"], help="(default pretrain)")
    parser.add_argument("--codec", nargs="+", choices=CODECS, default=["vp9"], help="of video (default vp9)")
    parser.add_argument("--audio", choices=AUDIO_CODECS, default="pcm16", help="codec of sound (default pcm16)")
    parser.add_argument("--providers", nargs="+", choices=PROVIDERS, default=list(PROVIDERS), help="(default: all)")
    parser.add_argument("--clips", type=int, default=4, help="clips a round (default 4)")
    parser.add_argument("--soak", type=int, metavar="N", help="instead, convert N clips in one worker and record its memory")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder, rows = command.recorder("convert", arguments), []
    with ExitStack() as stack:
        made = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "clip.mp4"
        source = options.source or write_source(made)
        for profile, codec in product(options.profile, options.codec):
            work = Work(source, profile, codec, options.audio, options.clips)
            if options.soak:
                rows += recorder.rows(work.case, "clip", soak(work, options.soak))
            else:
                needs = {name: NEEDS.get(name, NOTHING) for name in options.providers}
                settings = {"rounds": options.rounds, "warmup": 1, "memory": True}
                rows += command.measured(recorder, work.case, "clip", partial(setup, work), needs, **settings)
    command.finish(rows, options.csv)
    return 0
