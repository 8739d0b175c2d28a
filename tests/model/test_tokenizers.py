"""Tokens hold their own patch and position; positions of other grids follow the released sampling."""

import re
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tests.model.tiny import shake
from xkd.model.tokenizers import Tokenizer, interpolate_bicubic, interpolate_trilinear

VIDEO = ((3, 4, 8, 12), (2, 4, 4))
AUDIO = ((1, 8, 12), (4, 2))


def tokenizer(shape, patch, cls_token=True):
    torch.manual_seed(0)
    module = Tokenizer(shape, patch, 5, cls_token, "view")
    for parameter in (module.positions, module.cls_token):
        if parameter is not None:
            torch.nn.init.normal_(parameter)
    shake(module)
    return module


def clip_of(shape):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("shape", "patch"), [VIDEO, AUDIO])
@pytest.mark.parametrize("cls_token", [True, False])
def test_chosen_tokens_are_rows_of_all_tokens(shape, patch, cls_token):
    module, clip = tokenizer(shape, patch, cls_token), clip_of(shape)
    keep = torch.tensor([[3, 0, 5], [1, 4, 2]])
    everything, chosen = module(clip), module(clip, keep)
    num_class = int(cls_token)
    assert everything.shape == (2, num_class + module.num_tokens, 5)
    torch.testing.assert_close(chosen[:, :num_class], everything[:, :num_class])
    for sample in range(2):
        torch.testing.assert_close(chosen[sample, num_class:], everything[sample, num_class + keep[sample]])


@pytest.mark.parametrize(("shape", "patch"), [VIDEO, AUDIO])
def test_patches_that_are_not_chosen_are_never_read(shape, patch):
    module, clip = tokenizer(shape, patch), clip_of(shape)
    keep = torch.tensor([[3, 0, 5], [1, 4, 2]])
    patches = torch.full((2, module.num_tokens, module.projection.in_features), torch.nan)
    patches[torch.arange(2)[:, None], keep] = 1.0
    assert module(module.unpatchify(patches, like=clip), keep).isfinite().all()


@pytest.mark.parametrize(("shape", "patch"), [VIDEO, AUDIO])
def test_patch_means_are_constant_within_a_patch_and_keep_the_clips_mean(shape, patch):
    module, clip = tokenizer(shape, patch), clip_of(shape)
    means = module.patch_means(clip)
    torch.testing.assert_close(module.patch_means(means), means)
    torch.testing.assert_close(means.mean(), clip.mean())
    assert means.std() < clip.std()


def linear_weights(old, new):
    """[new, old] weights of linear sampling at (i + 0.5) / scale - 0.5 with scale (new + 0.1) / old, clamped at the border."""
    if new == old:
        return np.eye(old)
    weights = np.zeros((new, old))
    for i in range(new):
        x = max((i + 0.5) * old / (new + 0.1) - 0.5, 0)
        low = int(x)
        weights[i, min(low, old - 1)] += 1 - (x - low)
        weights[i, min(low + 1, old - 1)] += x - low
    return weights


def cubic(x, a=-0.75):
    x = abs(x)
    inner = (a + 2) * x**3 - (a + 3) * x**2 + 1
    outer = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return inner if x <= 1 else outer if x < 2 else 0.0


def cubic_weights(old, new):
    """The same with the cubic convolution kernel of four taps."""
    weights = np.zeros((new, old))
    for i in range(new):
        x = (i + 0.5) * old / (new + 0.1) - 0.5
        low = int(np.floor(x))
        for tap in range(low - 1, low + 3):
            weights[i, min(max(tap, 0), old - 1)] += cubic(x - tap)
    return weights


@pytest.mark.parametrize(
    ("old", "new"), [((2, 3, 4), (1, 2, 3)), ((4, 3, 3), (4, 5, 2)), ((2, 2, 2), (3, 4, 5)), ((1, 4, 4), (1, 2, 3))]
)
def test_video_positions_are_sampled_trilinearly_at_the_released_scale(old, new):
    positions = torch.randn(np.prod(old), 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sides = [linear_weights(o, n) for o, n in zip(old, new, strict=True)]
    expected = np.einsum("at,bh,cw,thwd->abcd", *sides, positions.view(*old, 7).numpy())
    found = interpolate_trilinear(positions, old, new)
    np.testing.assert_allclose(found.numpy(), expected.reshape(-1, 7), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("old", "new"), [((1, 3, 7), (1, 3, 4)), ((1, 2, 4), (1, 2, 9))])
def test_audio_positions_are_sampled_bicubically_along_time(old, new):
    positions = torch.randn(np.prod(old), 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = np.einsum("cw,hwd->hcd", cubic_weights(old[2], new[2]), positions.view(*old[1:], 7).numpy())
    found = interpolate_bicubic(positions, old, new)
    np.testing.assert_allclose(found.numpy(), expected.reshape(-1, 7), rtol=1e-6, atol=1e-7)


def test_a_spectrogram_of_other_mel_bands_is_refused():
    with pytest.raises(ValueError, match="2 rows of tokens meets positions for 3"):
        interpolate_bicubic(torch.randn(12, 4), (1, 3, 4), (1, 2, 4))


def test_a_video_of_one_token_in_time_is_still_sampled_trilinearly():
    module = tokenizer((3, 2, 12, 12), (2, 4, 4))
    whole, local = module.positions[0, 1:], module.positions_of(clip_of((3, 2, 8, 8)))
    torch.testing.assert_close(local, interpolate_trilinear(whole, (1, 3, 3), (1, 2, 2)))


def test_the_own_grid_gets_the_positions_as_they_are():
    module = tokenizer(*VIDEO)
    assert torch.equal(module.positions_of(clip_of(VIDEO[0])), module.positions[0, 1:])


@pytest.mark.parametrize(("shape", "patch"), [VIDEO, AUDIO])
def test_a_clip_that_cannot_be_cut_is_refused(shape, patch):
    with pytest.raises(ValueError, match=r"clip: .* cannot be cut into tokens of .*: every side must be a multiple"):
        tokenizer(shape, patch)(clip_of((*shape[:-1], shape[-1] + 1)))


@pytest.mark.parametrize(("weights", "context", "expected"), [
    (torch.float32, nullcontext(), torch.float32),
    (torch.bfloat16, nullcontext(), torch.bfloat16),
    (torch.float32, torch.autocast("cpu", dtype=torch.bfloat16), torch.bfloat16),
])  # fmt: skip
def test_the_projection_receives_patches_in_its_own_precision(weights, context, expected):
    module = tokenizer(*VIDEO).to(weights)
    received = []
    module.projection.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0].dtype))
    with context:
        module(clip_of(VIDEO[0]))
    assert received == [expected]


@pytest.mark.parametrize(
    ("own", "clip", "message"),
    [
        (VIDEO, torch.zeros(2, 1, 4, 8, 12), "the shape (2, 1, 4, 8, 12) of this video is not [B, 3, T, H, W]"),
        (VIDEO, torch.zeros(3, 4, 8, 12), "the shape (3, 4, 8, 12) of this video is not [B, 3, T, H, W]"),
        (AUDIO, torch.zeros(1, 8, 12), "the shape (1, 8, 12) of this audio is not [B, 1, H, W]"),
        (AUDIO, torch.zeros(2, 1, 1, 8, 12), "the shape (2, 1, 1, 8, 12) of this audio is not [B, 1, H, W]"),
        (VIDEO, torch.zeros(2, 3, 4, 8, 12, dtype=torch.uint8), "this video is torch.uint8, not floating point: normalise it"),
    ],
)
def test_what_is_no_batch_of_normalised_clips_is_refused(own, clip, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tokenizer(*own)(clip)
