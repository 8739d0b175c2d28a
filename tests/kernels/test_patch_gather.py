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
