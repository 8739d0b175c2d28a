import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd.pipelines.config import AudioView
from xkd.pipelines.views.augment_spectrogram import (
    SOUND_UNIFORMS,
    canvas_steps,
    change_spectrograms,
    draw_box,
    draw_masks,
    draw_spectrogram,
    draw_warp,
    warp_matrices,
)

EVERYTHING = AudioView(time_warp=5, resize_crop=True, freq_masks=2, freq_mask_width=4, time_masks=2, time_mask_width=6)


def resized(part, *size):
    return torch.nn.functional.interpolate(part[None, None], size, mode="bicubic", align_corners=True)[0, 0]


@given(seed=st.integers(0, 2**32), bands=st.sampled_from([8, 13]), steps=st.sampled_from([12, 17]))
@settings(max_examples=40)
def test_resize_crop_is_torch_s_bicubic_interpolation_of_the_crop(seed, bands, steps):
    rng = np.random.default_rng(seed)
    canvas, spectrogram = canvas_steps(steps), torch.from_numpy(rng.normal(size=(bands, steps)).astype(np.float32))
    height, width = rng.integers(1, bands + 1), rng.integers(1, canvas + 1)
    y, x = rng.integers(0, bands - height + 1), rng.integers(0, canvas - width + 1)
    padded = torch.zeros(bands, canvas)
    margin = (canvas - steps) // 2
    padded[:, margin : margin + steps] = spectrogram
    expected = resized(padded[y : y + height, x : x + width], bands, steps)
    found = change_spectrograms(spectrogram[None], {"box": np.array([[y, x, height, width]], np.int32)})[0]
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("column", "moved"), [(5, 7), (6, 2), (1, 16), (16, 1), (8, 8)])
def test_a_time_warp_resizes_what_is_left_and_right_of_a_column(column, moved):
    spectrogram = torch.randn(6, 17)
    found = change_spectrograms(spectrogram[None], {"warp": np.array([[column, moved]], np.int32)})[0]
    left, right = resized(spectrogram[:, :column], 6, moved), resized(spectrogram[:, column:], 6, 17 - moved)
    assert torch.allclose(found, torch.cat([left, right], dim=1), atol=1e-5)


def test_a_column_that_is_not_moved_changes_nothing():
    assert np.allclose(warp_matrices(np.array([[9, 9]]), 20)[0], np.eye(20), atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("name", "axis", "size"), [("freq_masks", 1, 80), ("time_masks", 2, 112)])
def test_masks_are_torchaudio_s_at_the_same_place(seed, name, axis, size):
    spectrogram = torch.randn(1, 80, 112) + 5
    torch.manual_seed(seed)
    expected = torchaudio.functional.mask_along_axis(spectrogram, mask_param=20, mask_value=0.0, axis=axis)
    torch.manual_seed(seed)
    width = torch.rand(1) * 20  # torchaudio's formula for the mask that it draws
    begin = torch.rand(1) * (size - width)
    mask = np.array([[[int(begin), int(begin) + int(width)]]], np.int32)
    assert torch.equal(change_spectrograms(spectrogram, {name: mask}), expected)


def test_several_masks_cover_all_their_places():
    found = change_spectrograms(torch.ones(1, 8, 10), {"time_masks": np.array([[[1, 3], [2, 5], [9, 9]]], np.int32)})
    assert found[0, 0].tolist() == [1, 0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_warp_crop_and_masks_follow_each_other():
    spectrograms = torch.randn(1, 8, 20)
    drawn = {
        "warp": np.array([[9, 12]], np.int32),
        "box": np.array([[1, 4, 6, 18]], np.int32),
        "freq_masks": np.array([[[2, 4]]], np.int32),
        "time_masks": np.array([[[0, 3]]], np.int32),
    }
    expected = spectrograms
    for name, value in drawn.items():
        expected = change_spectrograms(expected, {name: value})
    assert torch.allclose(change_spectrograms(spectrograms, drawn), expected, atol=1e-5)


def drawn_for(seeds, view=EVERYTHING, bands=16, steps=40):
    count = SOUND_UNIFORMS + 2 * (view.freq_masks + view.time_masks)
    parts = [draw_spectrogram(np.random.default_rng(seed).random(count), view, bands, steps) for seed in seeds]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def test_no_row_depends_on_those_beside_it():
    spectrograms, drawn = torch.randn(6, 16, 40), drawn_for(range(6))
    together = change_spectrograms(spectrograms, drawn)
    for row in range(6):
        alone = change_spectrograms(spectrograms[row : row + 1], {name: value[row : row + 1] for name, value in drawn.items()})
        assert torch.equal(together[row], alone[0])


def test_what_is_switched_off_is_not_drawn():
    assert drawn_for([0], AudioView()) == {}
    assert drawn_for([0]).keys() == {"warp", "box", "freq_masks", "time_masks"}


def test_crops_lie_on_the_canvas():
    boxes = np.stack([draw_box(np.random.default_rng(seed).random(4), 80, 112) for seed in range(300)])
    y, x, height, width = boxes.T
    assert boxes.dtype == np.int32
    assert min(y.min(), x.min()) >= 0
    assert (height.min(), width.min()) >= (47, 66)
    assert (y + height).max() <= 80
    assert (x + width).max() <= canvas_steps(112) == 168
    assert width.max() > 112


@given(first=st.floats(0, 0.9999999), second=st.floats(0, 0.9999999), steps=st.integers(3, 50), data=st.data())
def test_a_warp_keeps_both_parts_and_its_reach(first, second, steps, data):
    reach = data.draw(st.integers(1, (steps - 1) // 2))
    column, moved = draw_warp(np.array([first, second]), reach, steps)
    assert 0 < column < steps
    assert 0 < moved < steps
    assert abs(moved - column) <= reach


@given(seed=st.integers(0, 2**32), width=st.integers(0, 20))
def test_masks_lie_in_the_spectrogram_and_are_no_wider_than_configured(seed, width):
    begin, end = draw_masks(np.random.default_rng(seed).random(20), width, 20).T
    assert min(begin) >= 0
    assert max(end) <= 20
    assert ((end - begin >= 0) & (end - begin <= width)).all()


def test_masks_of_every_width_are_drawn():
    begin, end = draw_masks(np.random.default_rng(0).random(2000), 5, 20).T
    assert set(end - begin) == set(range(6))
    assert set(begin[end - begin == 5]) == set(range(16))
