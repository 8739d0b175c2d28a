"""patch_gather in Triton."""

import pytest
import torch

from tests.kernels.oracle import assert_near
from xkd.kernels.patch_gather import addressable, patch_gather, reference

CASES = [  # clip [B, C, T, H, W], patch, patches chosen (None: all)
    ((2, 3, 4, 8, 32), (2, 4, 16), 3),
    ((3, 3, 4, 6, 10), (2, 3, 5), 5),  # no power of two
    ((5, 1, 1, 10, 21), (1, 5, 3), 9),  # a spectrogram, the last program not full
    ((2, 2, 2, 2, 4), (1, 1, 2), None),
    ((2, 3, 2, 6, 10), (2, 3, 5), None),
]
FULL_SIZE = [
    ((64, 3, 32, 112, 112), (4, 16, 16), 59),
    ((128, 3, 8, 96, 96), (4, 16, 16), None),
    ((64, 1, 1, 80, 448), (1, 4, 16), 112),
]
CLIP_DTYPES = [torch.uint8, torch.float32, torch.bfloat16, torch.float16]


def inputs(shape, patch, num_chosen, dtype, device):
    torch.manual_seed(0)
    clip = torch.randint(256, shape).to(device, dtype)
    num_tokens = torch.Size(shape[2:]).numel() // torch.Size(patch).numel()
    ids = None if num_chosen is None else torch.rand(shape[0], num_tokens).argsort(1)[:, :num_chosen].to(device)
    levels = {"mean": torch.rand(shape[1], device=device) * 128, "std": torch.rand(shape[1], device=device) * 60 + 20}
    return clip, ids, patch, levels


def expected(clip, ids, patch, dtype, mean=None, std=None):
    return reference(clip, ids, mean, std, patch, dtype)


@pytest.mark.parametrize("dtype", CLIP_DTYPES, ids=str)
@pytest.mark.parametrize("case", [*CASES, *(pytest.param(case, marks=pytest.mark.gpu) for case in FULL_SIZE)], ids=str)
def test_values_are_the_references_to_the_last_bit(case, dtype, device):
    clip, ids, patch, levels = inputs(*case, dtype, device)
    assert torch.equal(patch_gather(clip, ids, patch, dtype=torch.float32), expected(clip, ids, patch, torch.float32))
    normalised = patch_gather(clip, ids, patch, dtype=torch.float32, **levels)
    assert torch.equal(normalised, expected(clip, ids, patch, torch.float32, **levels))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_result_in_another_dtype_is_rounded_once(case, dtype, device):
    clip, ids, patch, levels = inputs(*case, torch.uint8, device)
    out = patch_gather(clip, ids, patch, dtype=dtype, **levels)
    assert out.dtype == dtype
    oracle = expected(clip, ids, patch, torch.float64, **levels)
    assert_near(out, oracle, floor=expected(clip, ids, patch, dtype, **levels))


@pytest.mark.parametrize("dtype", CLIP_DTYPES[1:], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_clips_gradient_is_that_of_float64(case, dtype, device):
    clip, ids, patch, levels = inputs(*case, dtype, device)
    if ids is not None:
        ids[:, 1] = ids[:, 0]  # a patch that is taken twice adds up
    clip = (clip / 256).requires_grad_()
    out = patch_gather(clip, ids, patch, **levels)
    upstream = torch.randn(out.shape).to(out)
    exact = clip.detach().double().requires_grad_()
    (oracle,) = torch.autograd.grad(expected(exact, ids, patch, torch.float64, **levels), exact, upstream.double())
    (floor,) = torch.autograd.grad(expected(clip, ids, patch, dtype, **levels), clip, upstream)
    (grad,) = torch.autograd.grad(out, clip, upstream)
    assert grad.dtype == dtype
    assert_near(grad, oracle, floor=floor)


def test_by_default_floats_keep_their_dtype_and_levels_become_float32(device):
    for dtype in CLIP_DTYPES:
        clip, ids, patch, _ = inputs(*CASES[0], dtype, device)
        assert patch_gather(clip, ids, patch).dtype == (torch.float32 if dtype == torch.uint8 else dtype)


@pytest.mark.parametrize("layout", [(0, 4, 1, 2, 3), (0, 2, 1, 3, 4), (4, 3, 2, 1, 0)], ids=str)
def test_strided_inputs_are_read_where_they_lie(layout, device):
    clip, ids, patch, levels = inputs(*CASES[0], torch.float32, device)
    inverse = [layout.index(axis) for axis in range(5)]
    strided, strided_ids = clip.permute(inverse).contiguous().permute(layout), ids.T.contiguous().T
    assert not strided.is_contiguous()
    assert not strided_ids.is_contiguous()
    assert torch.equal(patch_gather(strided, strided_ids, patch, **levels), patch_gather(clip, ids, patch, **levels))


def test_samples_that_32_bits_do_not_reach_through_are_copied():
    time_first = torch.empty(32, 2048, 3, 112, 112, dtype=torch.uint8, device="meta").permute(1, 2, 0, 3, 4)
    assert addressable(time_first).stride() == (3 * 32 * 112 * 112, 32 * 112 * 112, 112 * 112, 112, 1)
    for near in (time_first[:, :, :16], time_first.contiguous()):
        assert addressable(near) is near


@pytest.mark.parametrize(("batch", "num_chosen"), [(0, 3), (2, 0), (0, None)])
def test_nothing_chosen_gives_an_empty_result(batch, num_chosen, device):
    clip, ids, patch, levels = inputs((batch, 3, 4, 8, 32), (2, 4, 16), num_chosen, torch.uint8, device)
    assert patch_gather(clip, ids, patch, **levels).shape == (batch, 8 if num_chosen is None else num_chosen, 384)


def test_nan_propagates_to_its_own_value_only(device):
    clip, ids, patch, levels = inputs(*CASES[0], torch.float32, device)
    clip[1, 2, 0, 0, 0] = torch.nan  # the first pixel of patch 0
    ids[1, 2] = 0
    ids[1, :2] = 1
    assert patch_gather(clip, ids, patch, **levels).isnan().nonzero().tolist() == [[1, 2, 2]]


def test_ids_outside_the_clip_read_nothing(device):
    clip, ids, patch, _ = inputs(*CASES[0], torch.float32, device)
    ids[:] = torch.tensor([-1, 8, 2**40])
    assert not patch_gather(clip, ids, patch).any()


def test_a_patch_too_large_for_a_program_is_refused_with_the_ways_out(device):
    clip = torch.zeros(1, 3, 8, 64, 64, dtype=torch.uint8, device=device)
    with pytest.raises(ValueError, match=r"a patch of 32768 x 3 values is too large.*16,384.*smaller patches.*XKD_KERNELS=torch"):
        patch_gather(clip, None, (8, 64, 64))


def test_float64_is_refused_where_triton_was_asked_for(device):
    clip, ids, patch, _ = inputs(*CASES[0], torch.float32, device)
    with pytest.raises(ValueError, match="patch_gather: the kernels accumulate in float32"):
        patch_gather(clip.double(), ids, patch)


@pytest.mark.parametrize("case", CASES[:1] + CASES[-1:], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_the_op_is_well_registered(case, dtype, device):
    clip, ids, patch, levels = inputs(*case, dtype, device)
    clip.requires_grad_(dtype == torch.float32)
    torch.library.opcheck(torch.ops.xkd.patch_gather, (clip, ids, *levels.values(), list(patch), torch.float32))


@pytest.mark.parametrize("case", CASES[:1] + CASES[-1:], ids=str)
def test_a_compiled_graph_gives_the_same(case, device):
    clip, ids, patch, levels = inputs(*case, torch.float32, device)
    clip.requires_grad_()
    compiled = torch.compile(patch_gather, fullgraph=True, backend="aot_eager")
    out, again = compiled(clip, ids, patch, **levels), patch_gather(clip, ids, patch, **levels)
    upstream = torch.randn(out.shape, device=device)
    assert torch.equal(out, again)
    assert torch.equal(*(torch.autograd.grad(each, clip, upstream)[0] for each in (out, again)))
