"""MMD against the textbook form in float64, where float32 is hardest: close features, far ones, tight sets far apart."""

from functools import partial

import pytest
import torch

from xkd.kernels.mmd import GAMMAS, mmd

DIM = 512


def textbook(z, num_x):
    """The definition, from pairwise differences in float64."""
    distances = (z.double()[:, None] - z.double()).square().sum(-1)
    kernel = sum(torch.exp(-gamma * distances) for gamma in GAMMAS)
    return kernel[:num_x, :num_x].mean() + kernel[num_x:, num_x:].mean() - 2 * kernel[:num_x, num_x:].mean()


def expanded(z, num_x):
    """The definition by |a|^2 + |b|^2 - 2 a.b as it stands, in the precision of z."""
    distances = (z.square().sum(1)[:, None] + z.square().sum(1) - 2 * z @ z.T).clamp(min=1e-30)
    kernel = sum(torch.exp(-gamma * distances) for gamma in GAMMAS)
    return kernel[:num_x, :num_x].mean() + kernel[num_x:, num_x:].mean() - 2 * kernel[:num_x, num_x:].mean()


def around(center, spread, rows):
    return center + spread * torch.randn(rows, DIM)


def features(name):
    torch.manual_seed(0)
    a, b = torch.randn(2, DIM) * 4  # |a|^2 is about 8192, as after the projector's LayerNorm
    sets = {
        "close": lambda: (around(a, 1e-3, 12), around(a, 1e-3, 9)),
        "near": lambda: (around(a, 3e-2, 12), around(a, 4e-2, 9)),
        "far": lambda: (around(a, 1.0, 12), around(b, 1.0, 9)),
        "tight sets far apart": lambda: (around(a, 1e-4, 12), around(b, 1e-4, 9)),
        "a collapsed set": lambda: (around(a, 0.0, 12), around(a, 0.5, 9)),
    }
    return torch.cat(sets[name]()), 12


NAMES = ["close", "near", "far", "tight sets far apart", "a collapsed set"]


def value_and_gradient(form, z, num_x):
    z = z.clone().requires_grad_()
    value = form(z, num_x)
    (3 * value).backward()
    return value.item(), z.grad.double()


def relative(found, reference):
    return ((found - reference).norm() / reference.norm()).item()


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_the_textbook_in_float64(name):
    z, num_x = features(name)
    value, gradient = value_and_gradient(textbook, z.double(), num_x)
    found, found_gradient = value_and_gradient(mmd, z, num_x)
    naive, naive_gradient = value_and_gradient(expanded, z, num_x)
    print(f"{name}: value off by {abs(found / value - 1):.1e}, gradient by {relative(found_gradient, gradient):.1e};", end=" ")
    print(f"expanded as it stands: {abs(naive / value - 1):.1e}, {relative(naive_gradient, gradient):.1e}")
    assert found == pytest.approx(value, rel=1e-4)
    assert relative(found_gradient, gradient) < 1e-5


def under_autocast(z, num_x, form=mmd):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return form(z, num_x)


# How far the rows of a set of prototypes lie from one common row, as a share of their own length.
SPREADS = {"nearly equal": 1e-5, "close": 1e-3, "near": 0.03, "apart": 0.3, "independent": 1.0}


@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
@pytest.mark.parametrize("context", ["float32", "autocast"])
def test_the_heads_outputs_are_compared_within_a_thousandth_of_float64(spread, context):
    """8192 standardised prototypes, as the projector hands them over; 32 rows a modality."""
    torch.manual_seed(0)
    z = torch.nn.functional.layer_norm(torch.randn(8192) + spread * (torch.randn(64, 8192) + 0.1), (8192,))
    z[32:] += 0.01 * spread
    forms = (mmd, expanded)
    if context == "autocast":
        forms = tuple(partial(under_autocast, form=form) for form in forms)
    value, gradient = value_and_gradient(textbook, z.double(), 32)
    (found, found_gradient), (naive, naive_gradient) = (value_and_gradient(form, z, 32) for form in forms)
    print(f"value off by {abs(found / value - 1):.1e}, gradient by {relative(found_gradient, gradient):.1e};", end=" ")
    print(f"expanded as it stands: {abs(naive / value - 1):.1e}, {relative(naive_gradient, gradient):.1e}")
    assert found == pytest.approx(value, rel=1e-3)
    assert relative(found_gradient, gradient) < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name):
    z, num_x = features(name)
    value, gradient = value_and_gradient(mmd, z, num_x)
    found, found_gradient = value_and_gradient(under_autocast, z, num_x)
    assert found == value
    assert torch.equal(found_gradient, gradient)


def test_half_precision_features_are_compared_in_float32():
    z, num_x = features("near")
    z = z.bfloat16()
    assert mmd(z, num_x).dtype == torch.float32
    assert mmd(z, num_x).item() == pytest.approx(textbook(z, num_x).item(), rel=1e-5)


@pytest.mark.parametrize(("num_x", "num_y", "dim"), [(1, 1, 1), (2, 5, 3), (6, 2, 4)])
def test_the_gradient_is_that_of_finite_differences(num_x, num_y, dim):
    torch.manual_seed(0)
    z = torch.randn(num_x + num_y, dim, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: mmd(z, num_x, gammas=(0.1, 1.0)), z)


def test_equal_sets_have_no_discrepancy():
    x = torch.randn(7, 20, dtype=torch.float64)
    assert mmd(torch.cat([x, x.flip(0)]), 7).abs() < 1e-9


def test_the_order_of_rows_and_of_sets_does_not_matter():
    torch.manual_seed(0)
    x, y = torch.randn(5, 20), torch.randn(8, 20) + 0.1
    swapped = torch.cat([y.flip(0), x[torch.randperm(5)]])
    torch.testing.assert_close(mmd(torch.cat([x, y]), 5), mmd(swapped, 8))


def test_nan_is_passed_on():
    z = torch.randn(6, 4)
    z[1, 2] = torch.nan
    assert mmd(z, 3).isnan()


def test_groups_are_compared_each_by_itself():
    z = torch.randn(3, 7, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mmd(z, 4), torch.stack([mmd(group, 4) for group in z]))


def test_the_shares_of_the_ranks_add_up_to_the_whole_and_carry_its_gradient():
    gathered = torch.randn(3, 7, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 4
    whole = gathered.clone().requires_grad_()
    expected = textbook(torch.cat([whole[:, :4].flatten(0, 1), whole[:, 4:].flatten(0, 1)]), 12)
    expected.backward()
    parts = [part.clone().requires_grad_() for part in gathered]
    shares = [mmd(part, 4, gathered_PSD=gathered, place=place) for place, part in enumerate(parts)]
    sum(shares).backward()
    torch.testing.assert_close(sum(shares), expected)
    torch.testing.assert_close(torch.stack([part.grad for part in parts]), whole.grad)


@pytest.mark.parametrize(
    ("shape", "num_x", "gathered", "place", "message"),
    [
        ((4, 5), 0, None, 0, r"the first 0 rows of \(4, 5\)"),
        ((2, 4, 5), 4, None, 0, r"the first 4 rows of \(2, 4, 5\)"),
        ((0, 5), 1, None, 0, "1 to R - 1 rows in each set"),
        ((5,), 1, None, 0, r"needs \[R, D\] or \[G, R, D\]"),
        ((4, 5), 2, (2, 3, 5), 0, r"gathered \(2, 3, 5\) torch.float32 does not fit z \(4, 5\)"),
        ((2, 4, 5), 2, (2, 4, 5), 0, r"needs \[P, S, D\] and \[S, D\]"),
        ((4, 5), 2, (2, 4, 5), 2, "place 2 of the gathered"),
        ((4, 5), 2, None, 1, "place 1 without the gathered rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(shape, num_x, gathered, place, message):
    with pytest.raises(ValueError, match=message):
        mmd(torch.zeros(shape), num_x, gathered_PSD=gathered and torch.zeros(gathered), place=place)


def test_integers_are_refused():
    with pytest.raises(ValueError, match=r"mmd: rows of torch\.int64: needs floating point"):
        mmd(torch.zeros(4, 5, dtype=torch.int64), 2)
