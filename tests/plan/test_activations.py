"""The count on tensors without data, against what real tensors and autograd's own hooks say."""

import pytest
import torch

from xkd.config import load
from xkd.jobs import schemas
from xkd.model.xkd import XKD
from xkd.plan.activations import Live, peak_bytes, view_shapes


def config(*overrides):
    return load("pretrain/demo.yaml", list(overrides), schemas())


def test_a_sum_worked_out_by_hand():
    with Live([]) as live:
        first = torch.zeros(1000)
        second = first + first  # both are held
        view = second[:10]
        del first
        third = second * 2
        del second, view
        assert live.now == 4000
        assert live.peak == 8000
        live.forget(third)
        assert live.now == 0


def test_what_real_tensors_hold_is_what_is_counted_without_data():
    clips = 3
    settings = config()
    loss = settings.loss.model_copy(update={"align_group": clips})
    network = XKD(settings.model, loss, **settings.data.view_shapes, seed=0)
    views = [torch.randn(shape) for shape in view_shapes(settings, clips)]
    with Live([*network.parameters(), *network.buffers(), *views]) as live:
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda parameter: live.forget(parameter.grad))
        network(*views, step=0).loss.backward()
    assert peak_bytes(settings, clips, "fp32") == pytest.approx(live.peak, rel=0.01)


def test_activations_grow_with_the_clips_and_shrink_when_computed_twice():
    one, two, four = (peak_bytes(config(), clips, "fp32") for clips in (8, 16, 32))
    assert four - two == pytest.approx(2 * (two - one), rel=0.02)
    assert peak_bytes(config("model.activation_checkpointing=true"), 32, "fp32") < 0.6 * four
    assert peak_bytes(config(), 32, "bf16") < 0.6 * four
