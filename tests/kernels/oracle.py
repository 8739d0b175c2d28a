"""How near a kernel must come to the same computation in float64."""

import torch

# Relative to the largest absolute value of the float64 result. The interpreter cuts bfloat16 off where a GPU rounds it.
TOLERANCES = {torch.float32: 1e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}


def assert_near(actual, expected, dtype=None, tolerance=None, floor=None):
    """|actual - expected| <= tolerance * max|expected|, that of `dtype` (by default of `actual`) unless given.

    `floor` is the result that torch reaches in the kernel's precision: the kernel may err at most twice as much, where that is
    more than the last bits.
    """
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    expected = expected.double()
    scale = expected.abs().max().item() or 1.0
    error = (actual.double() - expected).abs().max().item() / scale
    allowed = TOLERANCES[dtype or actual.dtype] if tolerance is None else tolerance
    assert error <= allowed, f"{error:.3g} of the largest value, {allowed:.3g} allowed"
    if floor is not None:
        torch_error = (floor.double() - expected).abs().max().item() / scale
        assert error <= max(2 * torch_error, torch.finfo(dtype or actual.dtype).eps), f"{error:.3g}, torch {torch_error:.3g}"
