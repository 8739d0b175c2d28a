"""mmd in Triton."""

import pytest
import torch

from tests.kernels.oracle import assert_near
from xkd.kernels.mmd import GAMMAS, mmd, reference

SHAPES = [  # G, R, X, D: single rows, neither a multiple of a tile, beyond one tile of rows, and D split between programs
    (1, 2, 1, 1),
    (2, 7, 4, 20),
    (3, 21, 12, 70),
    (1, 73, 40, 16),
    (2, 9, 5, 1100),
]
# A student's and a teacher's rows: 64 samples at once, and groups of 32; 256 samples; many.
FULL_SIZE = [(1, 256, 128, 8192), (2, 128, 64, 8192), (1, 128, 64, 8192), (1, 1024, 512, 8192), (1, 4096, 2048, 8192)]
# How far the rows of a set lie apart, and the sets from one another; features of the heads are about sqrt(D) long.
SPREADS = {
    "nearly equal": (1e-5, 1e-7),
    "close": (1e-3, 1e-3),
    "near": (0.03, 0.03),
    "independent": (1.0, 0.1),
    "tight sets far apart": (1e-4, 1.0),
}


def features(shape, device, spread="near", dtype=torch.float32):
    groups, num_rows, num_x, dim = shape
    torch.manual_seed(0)
    within, across = SPREADS[spread]
    z = torch.randn(dim) + within * torch.randn(groups, num_rows, dim)
    z[:, num_x:] += across * torch.randn(dim)
    return z.to(device, dtype).requires_grad_()


def run(function, z, *arguments, upstream):
    values = function(z, *arguments)
    return values, *torch.autograd.grad(values, z, upstream.to(values.dtype))


def in_torch(z, num_x):
    return reference(z, z.detach(), 0, num_x, GAMMAS)


def assert_agrees(shape, spread, dtype, device):
    z, upstream = features(shape, device, spread, dtype), torch.linspace(3, -2, shape[0], device=device)
    values, gradient = run(mmd, z, shape[2], upstream=upstream)
    oracle, expected = run(in_torch, z.detach().double().requires_grad_(), shape[2], upstream=upstream)
    _, floor = run(in_torch, z, shape[2], upstream=upstream)
    assert values.dtype == torch.float32
    assert gradient.dtype == dtype
    assert_near(values, oracle, tolerance=1e-5)
    assert_near(gradient, expected, tolerance=1e-5 if dtype == torch.float32 else None)
    # In float32, where the last bit is not what counts, no worse than torch's products.
    if dtype == torch.float32:
        error, torch_error = ((found - expected).norm() / expected.norm() for found in (gradient, floor))
        assert error <= max(2 * torch_error, 1e-6), f"{error:.3g}, torch {torch_error:.3g}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_float64(shape, device):
    assert_agrees(shape, "near", torch.float32, device)


@pytest.mark.parametrize("spread", SPREADS)
def test_close_and_far_sets_are_compared_as_in_float64(spread, device):
    assert_agrees((2, 20, 11, 96), spread, torch.float32, device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_features_are_compared_in_float32(dtype, device):
    assert_agrees((2, 20, 11, 96), "near", dtype, device)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spread", ["near", "independent"])
@pytest.mark.parametrize("shape", FULL_SIZE, ids=str)
def test_full_size_agrees_with_float64(shape, spread, dtype, device):
    assert_agrees(shape, spread, dtype, device)


def test_the_shares_of_three_ranks_are_the_whole(device):
    places, size, num_x, dim = 3, 6, 4, 40
    gathered = features((places, size, num_x, dim), device).detach()
    whole = gathered.double().requires_grad_()
    x, y = whole[:, :num_x].flatten(0, 1), whole[:, num_x:].flatten(0, 1)
    expected = in_torch(torch.cat([x, y])[None], places * num_x)[0]
    expected.backward()
    shares = 0
    for place in range(places):
        own = gathered[place].clone().requires_grad_()
        share = mmd(own, num_x, gathered_PSD=gathered, place=place)
        (gradient,) = torch.autograd.grad(share, own)
        assert_near(gradient, whole.grad[place], tolerance=1e-5)
        shares += share
    assert_near(shares, expected, tolerance=1e-5)


def test_without_a_gradient_no_slopes_are_kept(device):
    z = features((2, 7, 4, 20), device)
    arguments = (z.detach(), 0, 4, list(GAMMAS))
    kept, left_out = (torch.ops.xkd.mmd(z, *arguments, keep) for keep in (True, False))
    assert kept[3].shape == (2, 7, 7)
    assert left_out[3].numel() == 0
    assert torch.equal(kept[0], left_out[0])
    assert mmd(z.detach(), 4).requires_grad is False


def test_a_row_is_at_no_distance_from_itself(device):
    z = 1e4 * features((1, 8, 4, 50), device, "independent").detach()
    assert mmd(z, 4).item() == 7 * (1 / 4 + 1 / 4)


def test_strided_rows_give_the_result_of_contiguous_ones(device):
    z = features((2, 7, 4, 20), device).detach()
    strided = z.transpose(0, 2).contiguous().transpose(0, 2).requires_grad_()
    assert not strided.is_contiguous()
    upstream = torch.tensor([3.0, -2.0], device=device)
    for found, expected in zip(
        run(mmd, strided, 4, upstream=upstream), run(mmd, z.requires_grad_(), 4, upstream=upstream), strict=True
    ):
        assert torch.equal(found, expected)


def test_no_groups_have_no_values(device):
    z = features((0, 7, 4, 20), device)
    values = mmd(z, 4)
    assert values.shape == (0,)
    assert torch.autograd.grad(values.sum(), z)[0].shape == z.shape


def test_nan_reaches_the_value_and_the_gradient_of_its_group_only(device):
    z = features((2, 7, 4, 20), device).detach()
    z[1, 5, 3] = torch.nan
    values, gradient = run(mmd, z.requires_grad_(), 4, upstream=torch.ones(2, device=device))
    assert values.isnan().tolist() == [False, True]
    assert not gradient[0].isnan().any()
    assert gradient[1].isnan().any()


def test_float64_is_refused_where_triton_was_asked_for(device):
    with pytest.raises(ValueError, match="mmd: the kernels accumulate in float32 and take no float64"):
        mmd(features((1, 4, 2, 8), device, dtype=torch.float64), 2)


def test_the_op_is_well_registered(device):
    z = features((2, 7, 4, 20), device)
    for own, keep_slopes in ((z, True), (z.detach(), False)):
        torch.library.opcheck(torch.ops.xkd.mmd, (own, z.detach(), 0, 4, list(GAMMAS), keep_slopes))


def test_a_compiled_graph_gives_the_same(device):
    z, upstream = features((2, 7, 4, 20), device), torch.tensor([3.0, -2.0], device=device)
    compiled = torch.compile(mmd, fullgraph=True, backend="aot_eager")
    for found, expected in zip(run(compiled, z, 4, upstream=upstream), run(mmd, z, 4, upstream=upstream), strict=True):
        assert torch.equal(found, expected)
