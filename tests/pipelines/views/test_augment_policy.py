"""Every operation of RandAugment against numpy, at given strengths."""

import numpy as np
import pytest
from nvidia.dali import pipeline_def
from scipy.ndimage import affine_transform, correlate

from xkd.pipelines.config import RandAugment
from xkd.pipelines.views.augment_policy import BINS, OPERATIONS, POLICY_UNIFORMS, apply_policy, draw_policy
from xkd.pipelines.views.graph import integers

SIZE = 32
NAMES = [operation.name for operation in OPERATIONS]
# Frames as smooth as pictures are, with some grain.
GRID = np.mgrid[:SIZE, :SIZE] / SIZE
WAVES = np.stack([np.sin(3 * GRID[0] + c + f) * np.cos(4 * GRID[1] - c) for f in range(3) for c in range(3)])
FRAMES = np.ascontiguousarray((128 + 90 * WAVES.reshape(3, 3, SIZE, SIZE).transpose(0, 2, 3, 1)).astype(np.uint8))
FRAMES += np.random.default_rng(0).integers(0, 20, FRAMES.shape).astype(np.uint8)


@pytest.fixture(scope="module")
def augment():
    """Apply two operations, each given as (name, magnitude bin, negative), to the frames."""
    from nvidia.dali import fn, types

    settings = RandAugment(ops=2)

    @pipeline_def(batch_size=4, num_threads=1, device_id=None, prefetch_queue_depth=1, enable_conditionals=True, exec_dynamic=True)
    def graph():
        pixels = fn.external_source(name="pixels", dtype=types.UINT8, ndim=4, layout="FHWC")
        return apply_policy(pixels, settings, SIZE, *(integers(name) for name in ("operation", "magnitude", "negative")))

    pipeline = graph()
    pipeline.build()

    def run(*rows, frames=FRAMES):
        numbers = [[(1 + NAMES.index(name) if name else 0, *rest) for name, *rest in row] for row in rows]
        operation, magnitude, negative = np.array(numbers, np.int32).transpose(2, 0, 1)
        pipeline.feed_input("pixels", [frames] * len(rows))
        for name, value in (("operation", operation), ("magnitude", magnitude), ("negative", negative)):
            pipeline.feed_input(name, np.ascontiguousarray(value))
        return np.array(pipeline.run()[0].as_tensor())

    return run


NOTHING = (None, 0, 0)


def warped(frames, matrix, offset):
    """Bilinear, grey outside: each output (y, x), counted from pixel centres at .5, is read from matrix @ (y, x) + offset."""
    matrix, offset = np.array(matrix), np.array(offset, float)
    offset = offset + matrix @ (0.5, 0.5) - 0.5
    read = [
        [affine_transform(frame[..., c].astype(float), matrix, offset, order=1, mode="constant", cval=128) for c in range(3)]
        for frame in frames
    ]
    return np.array(read).transpose(0, 2, 3, 1)


def rotated(degrees):
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = np.full(2, SIZE / 2)
    return warped(FRAMES, matrix, centre - matrix @ centre)


def enhanced(factor, base):
    return np.clip(base + factor * (FRAMES - base), 0, 255)


LUMA = np.array([0.299, 0.587, 0.114])
MOVED = {
    "rotate": lambda s: rotated(30 * s),
    "shear_x": lambda s: warped(FRAMES, [[1, 0], [-0.3 * s, 1]], (0, 0)),
    "shear_y": lambda s: warped(FRAMES, [[1, -0.3 * s], [0, 1]], (0, 0)),
    "translate_x": lambda s: warped(FRAMES, np.eye(2), (0, -0.45 * s * SIZE)),
    "translate_y": lambda s: warped(FRAMES, np.eye(2), (-0.45 * s * SIZE, 0)),
}
SIGNED = {
    "brightness": lambda s: enhanced(1 + 0.9 * s, 0),
    "contrast": lambda s: enhanced(1 + 0.9 * s, (FRAMES.mean((1, 2)) @ LUMA)[:, None, None, None]),
    "color": lambda s: enhanced(1 + 0.9 * s, (FRAMES @ LUMA)[..., None]),
    "sharpness": lambda s: enhanced(1 + 0.9 * s, smoothed()),
}
UNSIGNED = {
    "auto_contrast": lambda s: stretched(),
    "invert": lambda s: 255 - FRAMES,
    "posterize": lambda s: FRAMES & (0xFF << (8 - max(1, round(4 - 4 * s))) & 0xFF),
    "solarize": lambda s: np.where(256 - 256 * s > FRAMES, FRAMES, 255 - FRAMES),
    "solarize_add": lambda s: np.where(FRAMES < 128, FRAMES + int(110 * s), FRAMES),
    "equalize": lambda s: equalized(),
}


def smoothed():
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]])[None, :, :, None] / 13
    return correlate(FRAMES.astype(float), kernel, mode="mirror")


def stretched():
    low, high = FRAMES.min((1, 2), keepdims=True).astype(float), FRAMES.max((1, 2), keepdims=True)
    return (FRAMES - low) * 255 / (high - low)


def equalized():
    """Of each frame and channel, as OpenCV: the rank of a level among the pixels above the lowest level."""
    result = np.empty(FRAMES.shape)
    for frame in range(len(FRAMES)):
        for c in range(3):
            levels = FRAMES[frame, ..., c]
            counts = np.bincount(levels.ravel(), minlength=256).cumsum()
            lowest = counts[levels.min()]
            result[frame, ..., c] = (255 * (counts - lowest) / (levels.size - lowest))[levels]
    return result


def test_every_operation_has_an_oracle():
    assert {*MOVED, *SIGNED, *UNSIGNED} == set(NAMES)
    assert len(NAMES) == 15


BIN_NUMBERS = pytest.mark.parametrize("bin_number", [0, 11, 21, 30])
SIGNS = pytest.mark.parametrize("negative", [0, 1])


@BIN_NUMBERS
@SIGNS
@pytest.mark.parametrize("name", MOVED)
def test_a_movement_is_numpy_s_but_for_the_border(augment, name, bin_number, negative):
    expected = MOVED[name](bin_number / (BINS - 1) * (-1) ** negative)
    off = np.abs(augment([(name, bin_number, negative), NOTHING])[0] - expected)
    assert np.percentile(off, 85) <= 1.01  # DALI mixes the outermost pixels with the ground, scipy does not
    assert off.mean() < 2.5


@BIN_NUMBERS
@SIGNS
@pytest.mark.parametrize("name", SIGNED)
def test_a_signed_operation_is_numpy_s(augment, name, bin_number, negative):
    expected = SIGNED[name](bin_number / (BINS - 1) * (-1) ** negative)
    assert np.abs(augment([(name, bin_number, negative), NOTHING])[0] - np.clip(expected, 0, 255)).max() <= 1.01


@BIN_NUMBERS
@pytest.mark.parametrize("name", UNSIGNED)
def test_an_operation_without_sign_is_numpy_s(augment, name, bin_number):
    found = augment([(name, bin_number, 0), NOTHING], [(name, bin_number, 1), NOTHING])
    assert np.array_equal(found[0], found[1])
    assert np.abs(found[0] - UNSIGNED[name](bin_number / (BINS - 1))).max() <= 1.01


def test_operations_follow_each_other(augment):
    first, second = ("rotate", 20, 1), ("invert", 0, 0)
    both = augment([first, second])[0]
    assert np.array_equal(both, augment([second, NOTHING], frames=augment([first, NOTHING])[0])[0])
    assert not np.array_equal(both, augment([second, first])[0])


def test_no_example_depends_on_those_beside_it(augment):
    rows = [[(NAMES[k], 21, k % 2), (NAMES[-1 - k], 9, 1)] for k in range(4)]
    together = augment(*rows)
    for row, found in zip(rows, together, strict=True):
        assert np.array_equal(augment(row)[0], found)


def test_nothing_drawn_changes_nothing(augment):
    assert np.array_equal(augment([NOTHING, NOTHING])[0], FRAMES)


@pytest.mark.parametrize("name", NAMES)
def test_all_frames_are_changed_alike(augment, name):
    still = np.repeat(FRAMES[:1], 3, axis=0)
    found = augment([(name, 25, 1), NOTHING], frames=still)[0]
    assert (found == found[:1]).all()


def drawn(settings, count=3000):
    rng = np.random.default_rng(0)
    parts = [draw_policy(rng.random(settings.ops * POLICY_UNIFORMS), settings) for _ in range(count)]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def test_operations_strengths_and_signs_are_drawn_as_configured():
    values = drawn(RandAugment(ops=4, probability=0.5, magnitude=7, magnitude_std=0.5))
    operation = values["operation"]
    assert all(value.shape == (3000, 4) and value.dtype == np.int32 for value in values.values())
    assert (operation > 0).mean() == pytest.approx(0.5, abs=0.02)
    assert np.bincount(operation[operation > 0])[1:] / (operation > 0).sum() == pytest.approx(np.full(15, 1 / 15), abs=0.01)
    assert (values["magnitude"].mean(), values["magnitude"].std()) == pytest.approx((21, 1.5), abs=0.1)
    assert values["negative"].mean() == pytest.approx(0.5, abs=0.02)
    assert np.corrcoef(values["magnitude"][:, 0], values["magnitude"][:, 1])[0, 1] == pytest.approx(0, abs=0.06)


def test_a_strength_never_leaves_its_range():
    values = drawn(RandAugment(ops=2, magnitude=9.5, magnitude_std=2))["magnitude"]
    assert values.max() == BINS - 1
    assert drawn(RandAugment(ops=2, magnitude=0, magnitude_std=2))["magnitude"].min() == 0
    assert (drawn(RandAugment(ops=1, magnitude=10, magnitude_std=0))["magnitude"] == BINS - 1).all()
