"""The projector: bottleneck on the sphere, weight norm, final LayerNorm, one or several hidden norms."""

import pytest
import torch

from tests.model.tiny import shake
from xkd.model.config import ProjectorConfig
from xkd.model.networks import initialise
from xkd.model.projector import Projector


def projector(**changes):
    config = ProjectorConfig(**{"hidden_dim": 16, "bottleneck_dim": 6, "out_dim": 24, **changes})
    module = Projector(10, config)
    initialise(module, 0)
    shake(module)
    return module


def inputs():
    return torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(0))


def test_the_output_is_standardised_over_prototypes():
    y = projector()(inputs())
    assert y.shape == (2, 3, 24)
    torch.testing.assert_close(y.mean(-1), torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.var(-1, correction=0), torch.ones(2, 3), atol=1e-3, rtol=0)


def test_only_the_direction_of_a_prototype_counts():
    module, x = projector(), inputs()
    before = module(x)
    with torch.no_grad():
        module.directions *= torch.rand(24, 1) + 0.5
    torch.testing.assert_close(module(x), before)


def test_the_gains_stay_at_one():
    module = projector()
    module(inputs()).square().sum().backward()
    assert module.gains.grad is None
    assert torch.equal(module.gains, torch.ones(24, 1))


@pytest.mark.parametrize(
    ("num_layers", "shared_norm", "norms"), [(2, False, 1), (3, False, 2), (4, False, 3), (3, True, 1), (4, True, 1)]
)
def test_hidden_layers_have_one_norm_each_or_one_in_all(num_layers, shared_norm, norms):
    module = projector(num_layers=num_layers, shared_norm=shared_norm)
    assert len(module.layers) == num_layers
    assert len(module.norms) == norms


def test_a_shared_norm_is_applied_after_every_hidden_layer():
    module = projector(shared_norm=True)
    calls = []
    module.norms[0].register_forward_hook(lambda *_: calls.append(1))
    module(inputs())
    assert len(calls) == 2


def test_under_autocast_the_output_is_float32():
    module = projector()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(inputs())
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, module(inputs()), atol=0.1, rtol=0.1)
