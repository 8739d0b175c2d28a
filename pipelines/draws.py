"""Augmentation parameters of one sample: pure functions of (seed, epoch, sample id), whatever batch, rank or thread it is in.

Every function returns the parameters under the names the graph feeds them by, as float32 or int32 arrays (DALI takes no float64).
Boxes are in shares of the frame, so that they hold at any resolution, and are not rounded to pixels.
"""

import numpy as np

from xkd.pipelines.config import DataConfig, VideoView
from xkd.pipelines.counter_rng import Stream, uniforms

Parameters = dict[str, np.ndarray]

CROP_TRIES = 10  # as torchvision's RandomResizedCrop
VIDEO_VIEW_UNIFORMS = 8 + 2 * CROP_TRIES + 2
LOCAL_AUDIO_STEP = 100  # local audio views start at multiples of this many samples
RESIZE_CROP_RANGE = (0.6, 1.5)  # height and width of the spectrogram's random crop, in shares of the view
RESIZE_CROP_CANVAS = 1.5  # width of the zero canvas around the spectrogram, in shares of the view


def between(low: float, high: float, uniform):
    """Map [0, 1) to [low, high)."""
    return low + (high - low) * uniform


def pick(count: int, uniform: float) -> int:
    """Map [0, 1) to an integer in `range(count)`."""
    return int(count * uniform)


def random_resized_crop(uniform: np.ndarray, scale, ratio, aspect: float) -> tuple[float, float, float, float]:
    """A crop (y0, x0, y1, x1) covering a drawn share of a frame of width / height `aspect`; takes 2 * CROP_TRIES + 2 uniforms.

    The first of CROP_TRIES draws that fits in the frame; else the largest centred crop of an allowed ratio.
    """
    area = between(*scale, uniform[:CROP_TRIES])
    ratios = np.exp(between(*np.log(ratio), uniform[CROP_TRIES : 2 * CROP_TRIES]))
    heights, widths = np.sqrt(area * aspect / ratios), np.sqrt(area * ratios / aspect)
    fits = (heights <= 1) & (widths <= 1)
    if not fits.any():
        return centred_crop(float(np.clip(aspect, *ratio)), aspect)
    first = fits.argmax()
    y, x = uniform[-2:] * (1 - heights[first], 1 - widths[first])
    return y, x, y + heights[first], x + widths[first]


def centred_crop(ratio: float, aspect: float) -> tuple[float, float, float, float]:
    """The largest centred crop of width / height `ratio` in a frame of width / height `aspect`."""
    height, width = min(1.0, aspect / ratio), min(1.0, ratio / aspect)
    return (1 - height) / 2, (1 - width) / 2, (1 + height) / 2, (1 + width) / 2


def crop_parameters(box, flip: bool = False) -> Parameters:
    """A crop for the graph's resize; a flip swaps left and right."""
    y0, x0, y1, x1 = box
    left, right = (x1, x0) if flip else (x0, x1)
    return {"roi_start": np.array([y0, left], np.float32), "roi_end": np.array([y1, right], np.float32)}


def colour_parameters(uniform: np.ndarray, view: VideoView) -> Parameters:
    """Colour factors and blur width; takes 7 uniforms. A grey view is one of saturation 0; sigma 0 stands for no blur."""
    spread = 2 * uniform[:4] - 1
    parameters = {}
    if view.recolours:
        saturation = 0 if uniform[4] < view.gray else 1 + view.saturation * spread[2]
        parameters |= {
            "brightness": np.float32(1 + view.brightness * spread[0]),
            "contrast": np.float32(1 + view.contrast * spread[1]),
            "saturation": np.float32(saturation),
            "hue": np.float32(360 * view.hue * spread[3]),
        }
    if view.blur:
        sigma = between(*view.blur_sigma, uniform[6]) if uniform[5] < view.blur else 0
        parameters["sigma"] = np.float32(sigma)
    return parameters


def video_view(uniform: np.ndarray, view: VideoView, aspect: float) -> Parameters:
    """Crop, flip, colour and blur of one view; takes VIDEO_VIEW_UNIFORMS uniforms."""
    box = random_resized_crop(uniform[8:], view.scale, view.ratio, aspect)
    return crop_parameters(box, flip=uniform[7] < view.flip) | colour_parameters(uniform[:7], view)


def resize_crop_box(uniform: np.ndarray, bands: int, steps: int) -> np.ndarray:
    """Box (y, x, height, width) on the canvas of `canvas_steps(steps)` columns around a spectrogram; takes 4 uniforms."""
    canvas = canvas_steps(steps)
    height, width = (between(*RESIZE_CROP_RANGE, uniform[:2]) * (bands, steps)).astype(int)
    height, width = np.clip((height, width), 1, (bands, canvas))
    return np.array([pick(bands - height + 1, uniform[2]), pick(canvas - width + 1, uniform[3]), height, width], np.int32)


def canvas_steps(steps: int) -> int:
    """Columns of the canvas that a spectrogram's random resize crop is taken from."""
    return int(RESIZE_CROP_CANVAS * steps)


def prefixed(view: str, parameters: Parameters) -> Parameters:
    """Parameters under the view's name, as the graph's inputs are called."""
    return {f"{view}.{name}": value for name, value in parameters.items()}


def random_views(config: DataConfig, seed: int, epoch: int, sample: int, aspect: float) -> Parameters:
    """All parameters of a pre-training example; `aspect` is the stored frame's width / height."""

    def draw(count: int, stream: Stream, view: int = 0) -> np.ndarray:
        return uniforms(count, seed, epoch, stream, sample, view)

    video, audio = config.video, config.audio
    parameters = prefixed("video_global", video_view(draw(VIDEO_VIEW_UNIFORMS, Stream.VIDEO_GLOBAL), video.global_view, aspect))
    for k in range(video.local_view.count):
        uniform = draw(VIDEO_VIEW_UNIFORMS + 1, Stream.VIDEO_LOCAL, k)
        first = {"first_frame": np.int32(pick(config.num_frames - video.local_view.frames + 1, uniform[0]))}
        parameters |= prefixed(f"video_local{k}", first | video_view(uniform[1:], video.local_view, aspect))

    volume = audio.global_view.volume
    parameters["audio_global.volume"] = np.float32(between(1 - volume, 1 + volume, draw(1, Stream.AUDIO_GLOBAL)[0]))
    for k in range(audio.local_view.count):
        parameters |= prefixed(f"audio_local{k}", local_audio_view(draw(2, Stream.AUDIO_LOCAL, k), config))
        if config.aligned_locals:
            frame = parameters[f"video_local{k % video.local_view.count}.first_frame"]
            parameters[f"audio_local{k}.first_sample"] = aligned_sample(config, int(frame))
    return parameters


def local_audio_view(uniform: np.ndarray, config: DataConfig) -> Parameters:
    """Start and volume of a local audio view; takes 2 uniforms."""
    volume = config.audio.local_view.volume
    starts = (config.clip_samples - config.local_samples) // LOCAL_AUDIO_STEP + 1
    return {
        "first_sample": np.int32(LOCAL_AUDIO_STEP * pick(starts, uniform[0])),
        "volume": np.float32(between(1 - volume, 1 + volume, uniform[1])),
    }


def resize_crop_boxes(config: DataConfig, seed: int, epoch: int, sample: int) -> np.ndarray:
    """The boxes of a sample's local spectrograms, int32 [L, 4]; what is not resized in the graph but after it."""
    _, bands, steps = config.local_audio_shape
    views = range(config.audio.local_view.count)
    return np.stack([resize_crop_box(uniforms(4, seed, epoch, Stream.AUDIO_RESIZE, sample, k), bands, steps) for k in views])


def aligned_sample(config: DataConfig, frame: int) -> np.int32:
    """Audio sample at which a video frame of the clip starts, or the last one that leaves room for a local view."""
    sample = round(frame / config.video.fps * config.audio.sample_rate)
    return np.int32(min(sample, config.clip_samples - config.local_samples))


def centred_views(config: DataConfig, seed: int, epoch: int, sample: int, aspect: float) -> Parameters:
    """Parameters of an evaluation example: the largest centred square of every frame, nothing else changed; no local views."""
    return prefixed("video_global", crop_parameters(centred_crop(1.0, aspect))) | {"audio_global.volume": np.float32(1)}


def random_start(spare: int, seed: int, epoch: int, sample: int) -> int:
    """First audio sample of a clip that may start up to `spare` samples into the streams."""
    return pick(spare + 1, uniforms(1, seed, epoch, Stream.CLIP, sample)[0])


def centred_start(spare: int, seed: int, epoch: int, sample: int) -> int:
    """First audio sample of the clip in the middle of the streams."""
    return spare // 2
