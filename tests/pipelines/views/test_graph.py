"""The graph against numpy at given parameters, on clips encoded here."""

import io

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nvidia.dali import backend
from nvidia.dali.ops._names import _schema_name

from xkd.pipelines.config import DataConfig
from xkd.pipelines.loading.buffers import Buffers
from xkd.pipelines.loading.executor import Executor
from xkd.pipelines.views.example import ExampleConfig
from xkd.pipelines.views.finish import finish
from xkd.pipelines.views.graph import DEVICES, _graph, frame_inputs, output_names
from xkd.pipelines.views.presets import METHOD_VIEWS, PRESETS

HEIGHT, WIDTH, SIZE, FRAMES = 128, 176, 32, 20
IDENTITY = np.eye(3, 4, dtype=np.float32)
WHOLE = {"roi_start": (0, 0), "roi_end": (1, 1)}


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


def configuration(local=None, local_sound=None, clips=1, crops=1, **view) -> ExampleConfig:
    return ExampleConfig(
        train="unused",
        clip_seconds=1.0,
        clips=clips,
        crops=crops,
        video={"global_view": {"size": SIZE} | view, "local_view": {"count": 0, "blur": 0} | (local or {})},
        audio={"hop": 400, "local_view": local_sound or {"count": 0}},
    )


def run(config, encoded, frames=range(8), pcm=None, **parameters) -> dict[str, np.ndarray]:
    """The finished views of one example, without changes of colour; video in [0, 255]."""
    inputs = {
        "video": encoded,
        "frames": np.array(frames, np.int32),
        "pcm": np.zeros(config.clips * 16000, np.int16) if pcm is None else pcm,
    }
    inputs |= {f"audio_global{k}.volume": np.float32(1) for k in range(config.clips)}
    for name, value in parameters.items():
        kind = np.int32 if "first" in name else np.float32
        inputs[name.replace("__", ".")] = np.array(value, kind)
    after = {f"{name}{k}.colour": IDENTITY for name, count in config.view_counts.items() for k in range(count) if "video" in name}
    executor = Executor(config, batch_size=1, device="cpu")
    executor.put([inputs])
    views = finish(executor.take(), [after], config, Buffers())
    return {name: (value if config.clips > 1 else value[0]).numpy() for name, value in views.items()}


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
    found = run(configuration(), encoded, frames, **view("video_global0", **WHOLE))["video_global"]
    assert np.abs(found - cropped(stored[list(frames)])).max() < 0.51


@given(numbers=st.lists(st.integers(0, 40), min_size=1, max_size=64))
def test_the_decoder_is_asked_for_each_frame_once_and_in_rising_order(numbers):
    inputs = frame_inputs(np.array(numbers, np.int32))
    assert (np.diff(inputs["frames.decoded"]) > 0).all()
    assert inputs["frames.decoded"][inputs["frames.order"]].tolist() == numbers
    assert bool(inputs["frames.rearranged"]) == (inputs["frames.decoded"].tolist() != numbers)
    assert all(value.dtype == np.int32 for value in inputs.values())


@pytest.mark.parametrize(
    ("roi_start", "roi_end"), [((0.1, 0.2), (0.9, 0.7)), ((0.13, 0.91), (0.77, 0.22)), ((0.4, 0.4), (0.5, 0.5)), ((0, 1), (1, 0))]
)
def test_a_crop_is_resized_and_flipped_as_numpy_does_it(encoded, stored, roi_start, roi_end):
    found = run(configuration(), encoded, **view("video_global0", roi_start=roi_start, roi_end=roi_end))["video_global"]
    assert np.abs(found - cropped(stored[:8], roi_start, roi_end)).max() < 0.52


def test_a_flip_is_the_mirror_image(encoded):
    plain = run(configuration(), encoded, **view("video_global0", roi_start=(0.1, 0.2), roi_end=(0.8, 0.9)))["video_global"]
    flipped = run(configuration(), encoded, **view("video_global0", roi_start=(0.1, 0.9), roi_end=(0.8, 0.2)))["video_global"]
    assert np.abs(flipped - plain[..., ::-1]).max() < 1.01


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
    found = run(configuration(blur=0.5), encoded, **view("video_global0", **WHOLE, sigma=sigma))["video_global"]
    kernel = gaussian(SIZE, sigma)
    expected = np.einsum("yh,cthw,xw->ctyx", kernel, cropped(stored[:8]), kernel, optimize=True)
    assert np.abs(found - expected).max() < 1.5


def test_sigma_0_is_no_blur(encoded):
    sharp = run(configuration(), encoded, **view("video_global0", **WHOLE))["video_global"]
    found = run(configuration(blur=0.5), encoded, **view("video_global0", **WHOLE, sigma=0))["video_global"]
    assert np.array_equal(sharp, found)


def test_local_views_are_consecutive_frames_of_the_clip(encoded, stored):
    config = configuration(local={"count": 2, "frames": 3, "size": 16})
    box = {"roi_start": (0.2, 0.3), "roi_end": (0.6, 0.5)}
    found = run(
        config,
        encoded,
        range(4, 12),
        **view("video_global0", **WHOLE),
        **view("video_local0", first_frame=0, **WHOLE),
        **view("video_local1", first_frame=5, **box),
    )["video_local"]
    assert np.abs(found[0] - cropped(stored[4:7], size=16)).max() < 0.51
    assert np.abs(found[1] - cropped(stored[9:12], **box, size=16)).max() < 0.52


def test_crops_from_resized_frames_cover_the_same_place(encoded, stored):
    config = configuration(size=96).model_copy(update={"crop_from": "resized"})
    box = {"roi_start": (0.1, 0.2), "roi_end": (0.9, 0.7)}
    found = run(config, encoded, **view("video_global0", **box))["video_global"]
    assert np.abs(found - cropped(stored[:8], **box, size=96)).mean() < 4


def test_local_sounds_are_stretches_of_the_clip_at_their_own_volume(encoded):
    config = configuration(local_sound={"count": 1, "seconds": 0.25, "resize_crop": False})
    pcm = np.random.default_rng(0).integers(-8000, 8000, 16000).astype(np.int16)
    local = view("audio_local0", first_sample=700, volume=0.5)
    found = run(config, encoded, pcm=pcm, **view("video_global0", **WHOLE), **local)["audio_local"][0, 0]
    alone = np.zeros(16000, np.int16)
    alone[:4000] = pcm[700:4700] // 2
    expected = run(configuration(), encoded, pcm=alone, **view("video_global0", **WHOLE))["audio_global"][0]
    assert found.shape == config.local_audio_shape[1:]
    assert np.abs(found[:, :8] - expected[:, :8]).max() < 0.02  # further right, a window sees beyond the 4000 samples


def test_clips_and_crops_of_evaluation_follow_each_other(encoded, stored):
    config = configuration(clips=2, crops=3)
    boxes = [{"roi_start": (0, x), "roi_end": (1, x + 0.5)} for x in (0, 0.25, 0.5)]
    parameters = {name: value for k in range(6) for name, value in view(f"video_global{k}", **boxes[k % 3]).items()}
    pcm = np.random.default_rng(0).integers(-8000, 8000, 32000).astype(np.int16)
    found = run(config, encoded, [*range(8), *range(10, 18)], pcm=pcm, **parameters)
    assert found["video_global"].shape == (6, 3, 8, SIZE, SIZE)
    for k, picture in enumerate(found["video_global"]):
        first = 10 * (k // 3)
        assert np.abs(picture - cropped(stored[first : first + 8], **boxes[k % 3])).max() < 0.52
    for clip in range(2):
        part = pcm[16000 * clip : 16000 * (clip + 1)]
        alone = run(configuration(), encoded, pcm=part, **view("video_global0", **WHOLE))["audio_global"]
        assert np.array_equal(found["audio_global"][clip], alone)


def test_outputs_follow_the_configuration():
    assert output_names(configuration()) == ("video_global", "audio_global")
    assert output_names(ExampleConfig(train="unused")) == ("video_global", "audio_global", "video_local", "audio_local")
    assert output_names(ExampleConfig(train="unused", streams=("video",))) == ("video_global", "video_local")
    assert output_names(ExampleConfig(train="unused", streams=("audio",))) == ("audio_global", "audio_local")


GPU_CONFIGS = {
    "pretrain": ExampleConfig(train="unused", crop_from="resized"),
    "finetune": PRESETS["finetune"].narrow(DataConfig(train="unused", **METHOD_VIEWS["finetune"])),
    "svm": PRESETS["svm"].narrow(DataConfig(train="unused", train_clips=2, **METHOD_VIEWS["svm"])),
    "eval": PRESETS["eval"].narrow(DataConfig(train="unused", **METHOD_VIEWS["eval"])),
}


def gpu_graph(config):
    """Every call of an operator, with the names and kinds of its arguments, is checked by DALI when the graph is defined."""
    return _graph(config, DEVICES["gpu"], output_names(config), batch_size=2, num_threads=1, device_id=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="builds where there is a GPU")
@pytest.mark.parametrize("config", GPU_CONFIGS.values(), ids=GPU_CONFIGS)
def test_the_gpu_graph_is_defined_and_its_building_refused_without_a_gpu(config):
    with pytest.raises(RuntimeError, match="create a GPU DALI pipeline while CUDA is not available"):
        gpu_graph(config).build()


@pytest.mark.parametrize("config", GPU_CONFIGS.values(), ids=GPU_CONFIGS)
def test_every_operator_of_the_gpu_graph_exists_there_and_takes_its_arguments_from_the_cpu(config):
    """Without a GPU, as far as DALI tells what it has: its registry, and the devices of each operator's inputs and outputs."""
    pipeline = gpu_graph(config)
    pipeline._build_graph()
    registered = {"cpu": backend.RegisteredCPUOps(), "gpu": backend.RegisteredGPUOps(), "mixed": backend.RegisteredMixedOps()}
    seen = {"cpu": set(), "gpu": set(), "mixed": set()}
    for instance in pipeline._ops:
        name, device, spec = _schema_name(type(instance._op)), instance._op.device, instance.spec
        seen[device].add(name)
        assert name in registered[device], (name, device)
        for place in range(spec.NumInput()):
            on_gpu = device == "gpu" and place < spec.NumRegularInput()
            assert str(spec.InputDevice(place)) == ("gpu" if on_gpu else "cpu"), (name, place)
    assert seen["mixed"] == {"decoders__Video"}
    assert {"Resize", "SequenceRearrange", "Spectrogram", "MelFilterBank"} <= seen["gpu"]
    assert seen["cpu"] <= {
        "ExternalSource", "Constant", "_ArithmeticGenericOp", "_TensorSubscript", "Slice", "_conditional__Split",
        "_conditional__Merge", "transforms__Shear", "transforms__Translation",
    }  # fmt: skip  # parameters, no pictures and no sound
