"""Per-tensor clipping equals clipping whole tensors, however they are cut over ranks."""

import math

import pytest
import torch

from xkd.train.clipping import clip_per_tensor


def whole(gradients, max_norm):
    return [g * min(1.0, max_norm / (g.double().norm().item() + 1e-6)) for g in gradients]


def test_one_rank_clips_each_tensor_by_its_own_norm():
    torch.manual_seed(0)
    gradients = [torch.randn(5, 3), torch.randn(7) * 1e-3, torch.zeros(4), torch.randn(1) * 50]
    expected = whole(gradients, 0.3)
    norms = clip_per_tensor(gradients, torch.full((4,), 0.3), lambda values: values)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=0)
    assert norms[1] < 0.3 < norms[0]


def test_pieces_on_two_ranks_are_clipped_by_the_norm_of_the_whole():
    torch.manual_seed(0)
    gradients = [torch.randn(6), torch.randn(9), torch.randn(4)]
    expected = whole(gradients, 0.3)
    # Rank 0 owns the first tensor and part of the second, rank 1 the rest.
    ranks = [[gradients[0].clone(), gradients[1][:2].clone(), None], [None, gradients[1][2:].clone(), gradients[2].clone()]]
    limits = torch.full((3,), 0.3)
    squares = []
    for pieces in ranks:
        copies = [None if piece is None else piece.clone() for piece in pieces]
        clip_per_tensor(copies, limits, lambda values: squares.append(values.clone()) or values)
    for pieces in ranks:
        clip_per_tensor(pieces, limits, lambda values: torch.stack(squares).sum(0))
    joined = [ranks[0][0], torch.cat([ranks[0][1], ranks[1][1]]), ranks[1][2]]
    torch.testing.assert_close(joined, expected, rtol=1e-6, atol=0)


def test_a_tensor_without_a_limit_is_left_alone():
    gradients = [torch.full((3,), 100.0), torch.full((3,), 100.0)]
    clip_per_tensor(gradients, torch.tensor([0.3, math.inf]), lambda values: values)
    assert gradients[0].norm().item() == pytest.approx(0.3, rel=1e-5)
    assert gradients[1].tolist() == [100.0] * 3


def test_a_rank_that_owns_nothing_still_takes_part():
    seen = []
    clip_per_tensor([None, None], torch.full((2,), 0.3), lambda values: seen.append(values) or values)
    assert seen[0].tolist() == [0.0, 0.0]
