"""XKD_KERNELS decides what runs, or says why it cannot."""

import pytest
import torch

from xkd.kernels.choice import INTERPRETED, VARIABLE, check_devices, implementation, use_triton


@pytest.mark.parametrize(("wanted", "device", "expected"), [
    (None, "cuda", "triton"),
    (None, "cpu", "torch"),
    ("auto", "cuda", "triton"),
    ("auto", "cpu", "torch"),
    ("torch", "cuda", "torch"),
    ("torch", "cpu", "torch"),
    ("triton", "cuda", "triton"),
])  # fmt: skip
def test_auto_takes_triton_on_cuda_and_a_wish_is_honoured(wanted, device, expected, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    if wanted:
        monkeypatch.setenv(VARIABLE, wanted)
    assert implementation(device) == expected


def test_an_unknown_choice_names_the_allowed_ones(monkeypatch):
    monkeypatch.setenv(VARIABLE, "fused")
    with pytest.raises(ValueError, match="XKD_KERNELS: 'fused' is not one of auto, torch, triton"):
        implementation("cpu")


@pytest.mark.skipif(INTERPRETED, reason="the interpreter runs on the CPU")
def test_triton_without_a_gpu_is_refused_with_the_ways_out(monkeypatch):
    monkeypatch.setenv(VARIABLE, "triton")
    with pytest.raises(ValueError, match=r"cannot run on cpu tensors: set it to auto or torch.*TRITON_INTERPRET=1"):
        use_triton("mmd", torch.zeros(1))


def test_float64_stays_with_torch_by_rule_and_is_refused_where_triton_was_asked_for(monkeypatch):
    monkeypatch.setenv(VARIABLE, "auto")
    oracle = torch.zeros(1, dtype=torch.float64, device="meta")
    monkeypatch.setattr("xkd.kernels.choice.implementation", lambda device: "triton")
    assert not use_triton("mmd", oracle)
    monkeypatch.setenv(VARIABLE, "triton")
    with pytest.raises(ValueError, match="mmd: the kernels accumulate in float32 and take no float64"):
        use_triton("mmd", oracle)


def test_tensors_on_two_devices_are_named():
    with pytest.raises(ValueError, match="mmd: needs all tensors on one device, not x on cpu, y on meta"):
        check_devices("mmd", x=torch.zeros(1), y=torch.zeros(1, device="meta"))
