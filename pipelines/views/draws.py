"""Parameters of one sample's views: pure functions of (seed, epoch, sample id), whatever batch, rank or thread it is in.

What the graph is fed is float32 or int32 (DALI takes no float64). A view's numbers come from one stretch of uniforms, of which an
augmentation that is switched off takes its part all the same, but for those of variable number, which come last.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from xkd.pipelines.config import AudioView, VideoConfig, VideoView
from xkd.pipelines.counter_rng import Stream, uniforms
from xkd.pipelines.views.augment_colour import COLOUR_UNIFORMS, draw_colour, normalisation
from xkd.pipelines.views.augment_crop import CROP_UNIFORMS, crop_parameters, placed_crop, random_resized_crop
from xkd.pipelines.views.augment_erase import ERASE_UNIFORMS, draw_rectangle, gaussian
from xkd.pipelines.views.augment_policy import POLICY_UNIFORMS, draw_policy
from xkd.pipelines.views.augment_spectrogram import SOUND_UNIFORMS, draw_spectrogram
from xkd.pipelines.views.example import ExampleConfig

Parameters = dict[str, np.ndarray]
Draw = Callable[[int, Stream, int], np.ndarray]  # (count, stream, view) -> uniforms

LOCAL_AUDIO_STEP = 100  # local audio views start at multiples of this many samples
VIDEO_VIEW_UNIFORMS = 3 + CROP_UNIFORMS + COLOUR_UNIFORMS + ERASE_UNIFORMS


@dataclass(frozen=True)
class ViewParameters:
    """By `VIEW.NAME`, such as `video_local0.sigma`: what the graph is fed, and what finish.py takes after it."""

    graph: Parameters = field(default_factory=dict)
    after: Parameters = field(default_factory=dict)

    def add(self, view: str, graph: Parameters, after: Parameters) -> None:
        self.graph.update({f"{view}.{name}": value for name, value in graph.items()})
        self.after.update({f"{view}.{name}": value for name, value in after.items()})


def pick(count: int, uniform: float) -> int:
    """Map [0, 1) to an integer in `range(count)`."""
    return int(count * uniform)


def random_views(config: ExampleConfig, seed: int, epoch: int, sample: int, aspect: float) -> ViewParameters:
    """Those of clips with augmentation; `aspect` is the stored frame's width / height."""

    def draw(count: int, stream: Stream, view: int = 0) -> np.ndarray:
        return uniforms(count, seed, epoch, stream, sample, view)

    views = ViewParameters()
    if "video" in config.streams:
        _add_pictures(views, draw, config, aspect)
    if "audio" in config.streams:
        _add_sounds(views, draw, config)
    return views


def _add_pictures(views: ViewParameters, draw: Draw, config: ExampleConfig, aspect: float) -> None:
    video = config.video
    for k in range(config.clips):
        views.add(f"video_global{k}", *_video_view(draw, Stream.VIDEO_GLOBAL, k, video.global_view, video, aspect))
    for k in range(video.local_view.count):
        graph, after = _video_view(draw, Stream.VIDEO_LOCAL, k, video.local_view, video, aspect)
        views.add(f"video_local{k}", graph | {"first_frame": np.int32(_first_frame(draw, config, k))}, after)


def _add_sounds(views: ViewParameters, draw: Draw, config: ExampleConfig) -> None:
    audio = config.audio
    for k in range(config.clips):
        views.add(f"audio_global{k}", *_audio_view(draw, Stream.AUDIO_GLOBAL, k, audio.global_view, config.audio_shape))
    for k in range(audio.local_view.count):
        graph, after = _audio_view(draw, Stream.AUDIO_LOCAL, k, audio.local_view, config.local_audio_shape)
        views.add(f"audio_local{k}", graph | {"first_sample": np.int32(_first_sample(draw, config, k))}, after)


def _first_frame(draw: Draw, config: ExampleConfig, view: int) -> int:
    """Frame of the clip at which a local video view starts."""
    return pick(config.num_frames - config.video.local_view.frames + 1, draw(1, Stream.FIRST_FRAME, view)[0])


def _first_sample(draw: Draw, config: ExampleConfig, view: int) -> int:
    """Audio sample of the clip at which a local audio view starts."""
    if config.aligned_locals:
        return aligned_sample(config, _first_frame(draw, config, view % config.video.local_view.count))
    starts = (config.clip_samples - config.local_samples) // LOCAL_AUDIO_STEP + 1
    return LOCAL_AUDIO_STEP * pick(starts, draw(1, Stream.FIRST_SAMPLE, view)[0])


def _video_view(
    draw: Draw, stream: Stream, number: int, view: VideoView, video: VideoConfig, aspect: float
) -> tuple[Parameters, Parameters]:
    """What the graph and what finish.py is given for one view."""
    policy = view.rand_augment
    uniform = draw(VIDEO_VIEW_UNIFORMS + policy.ops * POLICY_UNIFORMS, stream, number)
    (flip, blurred, sigma), crop, colour, erased, operations = np.split(
        uniform, np.cumsum([3, CROP_UNIFORMS, COLOUR_UNIFORMS, ERASE_UNIFORMS])
    )
    graph = crop_parameters(random_resized_crop(crop, view.scale, view.ratio, aspect), flip=flip < view.flip)
    if policy.ops:
        graph |= draw_policy(operations, policy)
    if view.blur:
        low, high = view.blur_sigma
        graph["sigma"] = np.float32(low + (high - low) * sigma if blurred < view.blur else 0)
    after = {"colour": affine_3x4(normalisation(video) @ draw_colour(colour, view))}
    if view.erase:
        y, x, height, width = draw_rectangle(erased, view.erase, view.erase_area, view.size)
        noise_stream = Stream.NOISE_GLOBAL if stream == Stream.VIDEO_GLOBAL else Stream.NOISE_LOCAL
        noise = gaussian(draw(2 * 3 * height * width, noise_stream, number)).reshape(3, height, width)
        after |= {"erase_place": np.array([y, x], np.int32), "erase_noise": noise.astype(np.float32)}
    return graph, after


def _audio_view(draw: Draw, stream: Stream, number: int, view: AudioView, shape) -> tuple[Parameters, Parameters]:
    _, bands, steps = shape
    uniform = draw(1 + SOUND_UNIFORMS + 2 * (view.freq_masks + view.time_masks), stream, number)
    return {"volume": np.float32(1 + view.volume * (2 * uniform[0] - 1))}, draw_spectrogram(uniform[1:], view, bands, steps)


def aligned_sample(config: ExampleConfig, frame: int) -> int:
    """Audio sample at which a video frame of the clip starts, or the last one that leaves room for a local view."""
    return min(round(frame / config.video.fps * config.audio.sample_rate), config.clip_samples - config.local_samples)


def fixed_views(config: ExampleConfig, seed: int, epoch: int, sample: int, aspect: float) -> ViewParameters:
    """An evaluation example's: square crops as large as the frame, nothing drawn; the crops of a clip follow each other."""
    places = {1: (0.5,), 3: (0.0, 0.5, 1.0)}[config.crops]
    after = {"colour": affine_3x4(normalisation(config.video))}
    views = ViewParameters()
    if "video" in config.streams:
        for k, place in enumerate(places * config.clips):
            views.add(f"video_global{k}", crop_parameters(placed_crop(1.0, aspect, place)), after)
    if "audio" in config.streams:
        for k in range(config.clips):
            views.add(f"audio_global{k}", {"volume": np.float32(1)}, {})
    return views


def affine_3x4(matrix: np.ndarray) -> np.ndarray:
    """The rows of an affine map that matter, as finish.py takes them."""
    return matrix[:3].astype(np.float32)


def random_starts(spare: int, config: ExampleConfig, seed: int, epoch: int, sample: int) -> list[int]:
    """First audio samples of clips that may start up to `spare` samples into the streams."""
    return [pick(spare + 1, uniforms(1, seed, epoch, Stream.CLIP, sample, clip)[0]) for clip in range(config.clips)]


def even_starts(spare: int, config: ExampleConfig, seed: int, epoch: int, sample: int) -> list[int]:
    """First audio samples of clips that are spread evenly from the first possible start to the last; of one, the middle."""
    if config.clips == 1:
        return [spare // 2]
    return np.linspace(0, spare, config.clips).astype(int).tolist()
