"""Norms of parts against those of their tensors put together."""

import math

import pytest
import torch

from xkd.train.gradient_norms import GradientNorms

NAMES = ["video_student.encoder.a", "video_student.encoder.blocks.0.b", "video_student.head.c", "audio_student.decoder.d"]


def test_a_part_has_the_norm_of_all_its_tensors_and_all_parts_that_of_all():
    gradients = [torch.randn(3, 4), torch.randn(5), torch.randn(2, 2), torch.randn(7)]
    norms = torch.stack([gradient.norm() for gradient in gradients])
    found = GradientNorms(NAMES, norms.device)(norms)
    parts = {"video_student.encoder": gradients[:2], "video_student.head": gradients[2:3], "audio_student.decoder": gradients[3:]}
    assert list(found) == ["grad_norm", *(f"grad_norm/{part}" for part in parts)]
    assert found.pop("grad_norm") == pytest.approx(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())
    for (name, norm), tensors in zip(found.items(), parts.values(), strict=True):
        assert norm == pytest.approx(torch.cat([tensor.flatten() for tensor in tensors]).norm().item()), name


def test_a_part_that_is_not_finite_leaves_the_others_readable():
    found = GradientNorms(NAMES, torch.device("cpu"))(torch.tensor([3.0, 4.0, math.nan, math.inf]))
    assert found["grad_norm/video_student.encoder"] == 5
    assert math.isnan(found["grad_norm/video_student.head"])
    assert math.isinf(found["grad_norm/audio_student.decoder"])
