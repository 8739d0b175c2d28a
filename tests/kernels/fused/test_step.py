"""A whole training step in Triton: all six ops take part, torch's forms of them do not, and loss and gradients are the same."""

import copy
from collections import Counter
from importlib import import_module

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.kernels.oracle import assert_near
from tests.model.tiny import shake, tiny_batch, tiny_xkd
from xkd.kernels.choice import VARIABLE

# How often a step calls each op: once a modality, but for the teacher's and the student's alignment, and the tokens of students and
# teachers, global and local.
FORWARD = {
    "random_mask": 2,
    "patch_gather": 6,
    "masked_recon_loss": 2,
    "decoder_assemble": 2,
    "mmd": 2,
    "distill_ce": 2,
}
BACKWARD = {"masked_recon_loss_backward": 2, "decoder_assemble_backward": 2, "mmd_backward": 1, "distill_ce_backward": 2}


class Counted(TorchDispatchMode):
    """Counts the calls of the project's ops by name."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "xkd":
            self.calls[func._opname] += 1
        return func(*args, **(kwargs or {}))


def step(xkd, batch, autocast=False):
    """The loss, the other numbers and the gradients by name."""
    with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=autocast):
        output = xkd(*batch, step=3, first_row=2)
    output.loss.backward()
    gradients = {name: parameter.grad for name, parameter in xkd.named_parameters() if parameter.grad is not None}
    return output.loss.detach(), output.parts, gradients


def in_torch(monkeypatch, xkd, batch, **options):
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, "torch")
        return step(copy.deepcopy(xkd), batch, **options)


def forbid_torch(monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("the torch form of an op was called")

    for op in FORWARD:
        monkeypatch.setattr(import_module(f"xkd.kernels.{op}"), "reference", forbidden)


@pytest.fixture
def make(device):
    def make(**variant):
        xkd = tiny_xkd(**variant)
        shake(xkd)
        return xkd.to(device), [view.to(device) for view in tiny_batch(2)]

    return make


VARIANTS = [{"sharing": "none"}, {"sharing": "student"}, {"sharing": "both", "cls_token": False, "loss": {"align_group": 1}}]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant["sharing"])
def test_a_step_runs_all_six_ops_in_triton_and_gives_what_torch_gives(variant, make, monkeypatch):
    xkd, batch = make(**variant)
    loss, parts, gradients = in_torch(monkeypatch, xkd, batch)
    forbid_torch(monkeypatch)
    with Counted() as counted:
        fused_loss, fused_parts, fused_gradients = step(xkd, batch)
    assert counted.calls == FORWARD | BACKWARD
    assert_near(fused_loss, loss, tolerance=1e-6)
    assert fused_parts.keys() == parts.keys()
    for name, part in parts.items():
        assert_near(fused_parts[name], part, tolerance=1e-5)
    assert fused_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert_near(fused_gradients[name], gradient, tolerance=1e-4)


def test_under_autocast_losses_stay_in_float32_and_near_torchs(make, monkeypatch):
    xkd, batch = make()
    loss, parts, gradients = in_torch(monkeypatch, xkd, batch, autocast=True)
    forbid_torch(monkeypatch)
    fused_loss, fused_parts, fused_gradients = step(xkd, batch, autocast=True)
    assert fused_loss.dtype == torch.float32
    assert_near(fused_loss, loss, tolerance=2**-7)
    for name, part in parts.items():
        assert fused_parts[name].dtype == torch.float32, name
        assert_near(fused_parts[name], part, tolerance=2**-6)
    for name, gradient in gradients.items():
        assert_near(fused_gradients[name], gradient, tolerance=2**-4)
