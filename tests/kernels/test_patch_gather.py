"""Patches are cut where they lie, valued in the documented order, and nothing else is read."""

import itertools

import pytest
import torch

from xkd.kernels.patch_gather import patch_gather, patch_scatter

# (B, C, T, H, W), patch
GEOMETRIES = [
    ((2, 3, 8, 12, 8), (4, 6, 4)),
    ((3, 1, 1, 10, 21), (1, 5, 3)),
    ((1, 2, 3, 2, 4), (3, 1, 2)),
    ((2, 1, 2, 2, 2), (1, 1, 1)),
]


def numbered_clip(shape):
    """A clip whose every value is different."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).view(shape)


def patch_by_loops(clip, sample, index, patch):
    (pt, ph, pw), (height, width) = patch, clip.shape[3:]
    nh, nw = height // ph, width // pw
    t, h, w = index // (nh * nw) * pt, index // nw % nh * ph, index % nw * pw
    places = itertools.product(range(t, t + pt), range(h, h + ph), range(w, w + pw), range(clip.shape[1]))
    return [clip[sample, c, a, i, j].item() for a, i, j, c in places]


def random_ids(shape, patch, count):
    num_tokens = torch.Size(shape[2:]).numel() // torch.Size(patch).numel()
    return torch.stack([torch.randperm(num_tokens)[:count] for _ in range(shape[0])])


@pytest.mark.parametrize(("shape", "patch"), GEOMETRIES)
def test_each_patch_holds_the_values_that_loops_find(shape, patch):
    torch.manual_seed(0)
    clip, ids = numbered_clip(shape), random_ids(shape, patch, 2)
    out = patch_gather(clip, ids, patch)
    for sample in range(shape[0]):
        for k, index in enumerate(ids[sample].tolist()):
            assert out[sample, k].tolist() == patch_by_loops(clip, sample, index, patch)


@pytest.mark.parametrize(("shape", "patch"), GEOMETRIES)
def test_without_ids_all_patches_come_in_order(shape, patch):
    clip = numbered_clip(shape)
    everything = torch.arange(torch.Size(shape[2:]).numel() // torch.Size(patch).numel()).expand(shape[0], -1)
    assert torch.equal(patch_gather(clip, None, patch), patch_gather(clip, everything, patch))


@pytest.mark.parametrize(("shape", "patch"), GEOMETRIES)
def test_scatter_undoes_gather(shape, patch):
    clip = numbered_clip(shape)
    assert torch.equal(patch_scatter(patch_gather(clip, None, patch), shape[1:], patch), clip)


def test_only_the_chosen_patches_are_read():
    shape, patch = GEOMETRIES[0]
    torch.manual_seed(0)
    ids = random_ids(shape, patch, 3)
    clip = numbered_clip(shape).requires_grad_()
    patch_gather(clip, ids, patch).sum().backward()
    read = patch_gather(clip.grad, None, patch).bool()
    assert torch.equal(read.all(-1), read.any(-1))
    assert torch.equal(read.any(-1), torch.zeros(read.shape[:2], dtype=torch.bool).scatter(1, ids, True))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
def test_channels_are_normalised_on_the_way(dtype):
    shape, patch = GEOMETRIES[0]
    torch.manual_seed(0)
    clip, ids = torch.randint(256, shape).to(dtype), random_ids(shape, patch, 3)
    mean, std = torch.rand(3, dtype=torch.float64) * 128, torch.rand(3, dtype=torch.float64) + 1
    out = patch_gather(clip, ids, patch, mean=mean.to(dtype) if dtype.is_floating_point else mean, std=std)
    before = (clip.double() - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)
    assert out.dtype == (dtype if dtype.is_floating_point else torch.float32)
    torch.testing.assert_close(out.double(), patch_gather(before, ids, patch), rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    shape, patch = GEOMETRIES[1]
    clip = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ids, std = torch.zeros(3, 2, dtype=torch.int64), torch.full((1,), 1.7, dtype=torch.float64)
    weight = torch.randn(3, 2, 15, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda c: patch_gather(c, ids, patch, mean=std, std=std) * weight, clip)


def test_neither_mean_nor_std_receives_a_gradient():
    shape, patch = GEOMETRIES[1]
    levels = [torch.ones(1, requires_grad=True) for _ in range(2)]
    assert not patch_gather(torch.randn(shape), None, patch, mean=levels[0], std=levels[1]).requires_grad


CLIP, IDS, LEVELS = torch.zeros(2, 3, 4, 6, 8), torch.zeros(2, 5, dtype=torch.int64), torch.ones(3)


@pytest.mark.parametrize(("arguments", "options", "message"), [
    ((CLIP[0], None, (2, 3, 4)), {}, r"a clip \(3, 4, 6, 8\) of torch.float32: needs \[B, C, T, H, W\] of one of uint8"),
    ((CLIP.int(), None, (2, 3, 4)), {}, r"of torch.int32: needs .* of one of uint8, bfloat16, float16, float32, float64"),
    ((CLIP, None, (2, 4, 4)), {}, r"\(2, 3, 4, 6, 8\) cannot be cut into patches \(2, 4, 4\): every side must be a multiple"),
    ((CLIP, IDS[:1], (2, 3, 4)), {}, r"ids \(1, 5\) of torch.int64 for a clip .*needs \[B, K\] of int64 or int32"),
    ((CLIP, IDS.float(), (2, 3, 4)), {}, r"ids \(2, 5\) of torch.float32"),
    ((CLIP, IDS.to("meta"), (2, 3, 4)), {}, "needs all tensors on one device, not clip on cpu, ids on meta"),
    ((CLIP, IDS, (2, 3, 4)), {"mean": LEVELS}, r"mean \(3,\) and std None: needs both or none"),
    ((CLIP, IDS, (2, 3, 4)), {"mean": LEVELS, "std": LEVELS[:1]}, r"mean \(3,\) and std \(1,\).* a value for each of 3 channels"),
    ((CLIP, IDS, (2, 3, 4)), {"dtype": torch.uint8}, "a result of torch.uint8: needs one of bfloat16, float16, float32, float64"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=f"patch_gather: .*{message}"):
        patch_gather(*arguments, **options)
