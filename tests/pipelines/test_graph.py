"""The graph against numpy at given parameters, on clips encoded here."""

import io

import av
import numpy as np
import pytest
import torch

from xkd.pipelines.config import DataConfig
from xkd.pipelines.executor import Executor
from xkd.pipelines.graph import DEVICES, _graph, output_names

HEIGHT, WIDTH, SIZE, FRAMES = 128, 176, 32, 20
STILL = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "gray": 0}
WHOLE = {"roi_start": (0, 0), "roi_end": (1, 1)}
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])


@pytest.fixture(scope="module")
def encoded():
    """A VP9 clip of coloured blocks that drift over a ground as bright as the frame's number tells."""
    blocks = np.random.default_rng(0).integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3)).repeat(16, 0).repeat(16, 1)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(
            "libvpx-vp9", rate=8, options={"deadline": "realtime", "cpu-used": "8", "g": "8", "crf": "20"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            picture = np.roll(blocks, 4 * number, axis=1)
            picture[: HEIGHT // 2] = 40 + 8 * number
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return np.frombuffer(buffer.getvalue(), np.uint8)


def configuration(local=None, local_sound=None, **view) -> DataConfig:
    return DataConfig(
        train="unused",
        clip_seconds=1.0,
        video={
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "global_view": {"size": SIZE} | STILL | view,
            "local_view": {"count": 0} | STILL | {"blur": 0} | (local or {}),
        },
        audio={"hop": 400, "local_view": local_sound or {"count": 0}},
    )


def run(config, encoded, frames=range(8), pcm=None, **parameters) -> dict[str, np.ndarray]:
    """The graph's outputs for one example; video in [0, 255]."""
    inputs = {
        "video": encoded,
        "frames": np.array(frames, np.int32),
        "pcm": np.zeros(16000, np.int16) if pcm is None else pcm,
        "audio_global.volume": np.float32(1),
    }
    for name, value in parameters.items():
        kind = np.int32 if "first" in name else np.float32
        inputs[name.replace("__", ".")] = np.array(value, kind)
    executor = Executor(config, batch_size=1, device="cpu")
    executor.put([inputs])
    return {name: value[0].numpy() * (255 if "video" in name else 1) for name, value in executor.take().items()}


def view(name, **parameters):
    return {f"{name}__{key}": value for key, value in parameters.items()}


@pytest.fixture(scope="module")
def stored(encoded):
    """All frames as the graph decodes them, float [T, H, W, 3]; checked against PyAV's by the first test."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    def decode():
        return fn.decoders.video(fn.external_source(name="video", dtype=types.UINT8, ndim=1), device="cpu")

    pipeline = decode()
    pipeline.feed_input("video", encoded[None])
    return np.array(pipeline.run()[0].as_tensor())[0].astype(float)


def triangle(size_in, start, stop, size_out):
    """The matrix of an antialiased linear resize of [start, stop), which may run backwards, to `size_out` values."""
    step = (stop - start) / size_out
    reach = max(abs(step), 1)
    centres = start + (np.arange(size_out) + 0.5) * step
    padding = int(np.ceil(reach)) + 1
    places = np.arange(-padding, size_in + padding)
    weights = np.maximum(0, 1 - np.abs(places + 0.5 - centres[:, None]) / reach)
    weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((size_out, size_in))
    for column, place in enumerate(places):
        matrix[:, np.clip(place, 0, size_in - 1)] += weights[:, column]
    return matrix


def cropped(frames, roi_start=(0, 0), roi_end=(1, 1), size=SIZE):
    (y0, x0), (y1, x1) = roi_start, roi_end
    rows, columns = triangle(HEIGHT, y0 * HEIGHT, y1 * HEIGHT, size), triangle(WIDTH, x0 * WIDTH, x1 * WIDTH, size)
    return np.einsum("yh,thwc,xw->ctyx", rows, frames, columns, optimize=True)


def test_frames_are_decoded_in_order_and_without_loss_of_place(encoded, stored):
    with av.open(io.BytesIO(encoded.tobytes())) as container:
        reference = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert stored.shape == reference.shape
    assert np.abs(stored - reference).mean() < 3


@pytest.mark.parametrize("frames", [range(0, 8), range(5, 13), range(3, 18, 2), [14, 16, 18, 0, 2, 4, 6, 8], [19] * 8])
def test_just_the_frames_asked_for_are_delivered_wrapped_or_not(encoded, stored, frames):
    found = run(configuration(), encoded, frames, **view("video_global", **WHOLE))["video_global"]
    assert np.abs(found - cropped(stored[list(frames)])).max() < 0.51


@pytest.mark.parametrize(
    ("roi_start", "roi_end"), [((0.1, 0.2), (0.9, 0.7)), ((0.13, 0.91), (0.77, 0.22)), ((0.4, 0.4), (0.5, 0.5)), ((0, 1), (1, 0))]
)
def test_a_crop_is_resized_and_flipped_as_numpy_does_it(encoded, stored, roi_start, roi_end):
    found = run(configuration(), encoded, **view("video_global", roi_start=roi_start, roi_end=roi_end))["video_global"]
    assert np.abs(found - cropped(stored[:8], roi_start, roi_end)).max() < 0.52


def test_a_flip_is_the_mirror_image(encoded):
    plain = run(configuration(), encoded, **view("video_global", roi_start=(0.1, 0.2), roi_end=(0.8, 0.9)))["video_global"]
    flipped = run(configuration(), encoded, **view("video_global", roi_start=(0.1, 0.9), roi_end=(0.8, 0.2)))["video_global"]
    assert np.abs(flipped - plain[..., ::-1]).max() < 1.01


def recoloured(pixels, brightness, contrast, saturation, hue):
    turn = np.deg2rad(-hue)
    chroma = saturation * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    in_yiq = np.block([[np.ones((1, 1)), np.zeros((1, 2))], [np.zeros((2, 1)), chroma]])
    matrix = np.linalg.inv(RGB_TO_YIQ) @ in_yiq @ RGB_TO_YIQ
    return brightness * (128 + contrast * (np.einsum("dc,ctyx->dtyx", matrix, pixels) - 128))


@pytest.mark.parametrize(
    ("brightness", "contrast", "saturation", "hue"),
    [(1, 1, 1, 0), (1.4, 1, 1, 0), (1, 0.6, 1, 0), (1, 1, 1.4, 0), (1, 1, 1, 50), (0.7, 1.3, 0.8, -70), (1.2, 0.8, 0, 30)],
)
def test_colour_is_one_affine_map(encoded, stored, brightness, contrast, saturation, hue):
    colour = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    found = run(configuration(hue=0.2), encoded, **view("video_global", **WHOLE, **colour))["video_global"]
    expected = recoloured(cropped(stored[:8]), **colour)
    assert np.abs(found - expected).max() < 3
    assert np.abs(found - expected).mean() < 0.7


def test_colour_is_not_clamped(encoded):
    colour = {"brightness": 1.4, "contrast": 1.4, "saturation": 1.4, "hue": 0}
    found = run(configuration(hue=0.2), encoded, **view("video_global", **WHOLE, **colour))["video_global"]
    assert found.max() > 260
    assert found.min() < -5


def test_a_grey_view_is_the_luma_of_the_coloured_one(encoded):
    colour = {"brightness": 1.2, "contrast": 0.8, "hue": 40}
    grey = run(configuration(hue=0.2), encoded, **view("video_global", **WHOLE, saturation=0, **colour))["video_global"]
    coloured = run(configuration(hue=0.2), encoded, **view("video_global", **WHOLE, saturation=1.3, **colour))["video_global"]
    assert np.abs(grey - np.einsum("c,ctyx->tyx", RGB_TO_YIQ[0], coloured)).max() < 1


def gaussian(size, sigma):
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    matrix = np.zeros((size, size))
    for row in range(size):
        for offset, tap in enumerate(taps, start=-reach):
            place = abs(row + offset)
            matrix[row, min(place, 2 * (size - 1) - place)] += tap
    return matrix


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_isotropic_and_leaves_frames_apart(encoded, stored, sigma):
    found = run(configuration(blur=0.5), encoded, **view("video_global", **WHOLE, sigma=sigma))["video_global"]
    kernel = gaussian(SIZE, sigma)
    expected = np.einsum("yh,cthw,xw->ctyx", kernel, cropped(stored[:8]), kernel, optimize=True)
    assert np.abs(found - expected).max() < 1.5


def test_sigma_0_is_no_blur(encoded):
    sharp = run(configuration(), encoded, **view("video_global", **WHOLE))["video_global"]
    found = run(configuration(blur=0.5), encoded, **view("video_global", **WHOLE, sigma=0))["video_global"]
    assert np.array_equal(sharp, found)


def test_views_are_normalised_by_mean_and_std(encoded):
    config = configuration()
    normalised = config.model_copy(
        update={"video": config.video.model_copy(update={"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)})}
    )
    plain = run(config, encoded, **view("video_global", **WHOLE))["video_global"] / 255
    found = run(normalised, encoded, **view("video_global", **WHOLE))["video_global"] / 255
    mean, std = np.reshape([0.5, 0.4, 0.3], (3, 1, 1, 1)), np.reshape([0.2, 0.3, 0.4], (3, 1, 1, 1))
    assert np.abs(found - (plain - mean) / std).max() < 1e-4


def test_local_views_are_consecutive_frames_of_the_clip(encoded, stored):
    config = configuration(local={"count": 2, "frames": 3, "size": 16})
    box = {"roi_start": (0.2, 0.3), "roi_end": (0.6, 0.5)}
    found = run(
        config,
        encoded,
        range(4, 12),
        **view("video_global", **WHOLE),
        **view("video_local0", first_frame=0, **WHOLE),
        **view("video_local1", first_frame=5, **box),
    )["video_local"]
    assert np.abs(found[0] - cropped(stored[4:7], size=16)).max() < 0.51
    assert np.abs(found[1] - cropped(stored[9:12], **box, size=16)).max() < 0.52


def test_crops_from_resized_frames_cover_the_same_place(encoded, stored):
    config = configuration(size=96).model_copy(update={"crop_from": "resized"})
    box = {"roi_start": (0.1, 0.2), "roi_end": (0.9, 0.7)}
    found = run(config, encoded, **view("video_global", **box))["video_global"]
    assert np.abs(found - cropped(stored[:8], **box, size=96)).mean() < 4


def test_local_sounds_are_stretches_of_the_clip_at_their_own_volume(encoded):
    config = configuration(local_sound={"count": 1, "seconds": 0.25, "resize_crop": False})
    pcm = np.random.default_rng(0).integers(-8000, 8000, 16000).astype(np.int16)
    local = view("audio_local0", first_sample=700, volume=0.5)
    found = run(config, encoded, pcm=pcm, **view("video_global", **WHOLE), **local)["audio_local"][0]
    alone = np.zeros(16000, np.int16)
    alone[:4000] = pcm[700:4700] // 2
    expected = run(configuration(), encoded, pcm=alone, **view("video_global", **WHOLE))["audio_global"]
    assert found.shape == config.local_audio_shape[1:]
    assert np.abs(found[:, :8] - expected[:, :8]).max() < 0.02  # further right, a window sees beyond the 4000 samples


def test_outputs_follow_the_configuration():
    assert output_names(configuration()) == ("video_global", "audio_global")
    assert output_names(DataConfig(train="unused")) == ("video_global", "audio_global", "video_local", "audio_local")


@pytest.mark.skipif(torch.cuda.is_available(), reason="builds where there is a GPU")
def test_the_gpu_graph_is_defined_and_its_building_refused_without_a_gpu():
    pipeline = _graph(DataConfig(train="unused", crop_from="resized"), DEVICES["gpu"], batch_size=2, num_threads=1, device_id=0)
    with pytest.raises(RuntimeError, match="create a GPU DALI pipeline while CUDA is not available"):
        pipeline.build()
