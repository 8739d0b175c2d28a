"""Refinement equals its definition by the outer product of the two attentions."""

import pytest
import torch

from xkd.model.refinement import WEIGHTINGS, refined_feature, token_weights


def attention(batch, heads, tokens, seed):
    return torch.randn(batch, heads, tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def by_outer_product(own, other, mode):
    """The definition: the product over both modalities is formed, then averaged back."""
    product = (own[..., :, None] * other[..., None, :]).mean(-1)
    weights = {"mean": product / own.mean(-1, keepdim=True), "softmax": product.softmax(-1), "none": torch.ones_like(product)}
    return weights[mode].mean(1)


@pytest.mark.parametrize("mode", WEIGHTINGS)
@pytest.mark.parametrize(("tokens", "others"), [(5, 7), (8, 2), (1, 1)])
def test_the_weights_are_those_of_the_outer_product(mode, tokens, others):
    own, other = attention(2, 3, tokens, 0), attention(2, 3, others, 1)
    torch.testing.assert_close(token_weights(own, other, mode), by_outer_product(own, other, mode))


@pytest.mark.parametrize("mode", WEIGHTINGS)
def test_a_refined_feature_points_along_the_weighted_mean_with_the_energy_of_the_plain_mean(mode):
    tokens = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = token_weights(attention(2, 3, 6, 0), attention(2, 3, 5, 1), mode)
    feature = refined_feature(tokens, weights)
    torch.testing.assert_close(feature.norm(dim=-1), tokens.mean(1).norm(dim=-1))
    weighted = (weights[..., None] * tokens).mean(1)
    torch.testing.assert_close(torch.cosine_similarity(feature, weighted, dim=-1), torch.ones(2, dtype=torch.float64))


def test_without_refinement_the_feature_is_the_plain_mean():
    tokens = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    weights = token_weights(attention(2, 3, 6, 0), attention(2, 3, 5, 1), "none")
    torch.testing.assert_close(refined_feature(tokens, weights), tokens.double().mean(1).float(), check_dtype=False)


def test_the_other_modality_only_scales_a_head_in_mode_mean():
    own, other = attention(2, 3, 6, 0), attention(2, 3, 5, 1)
    shuffled = other[..., torch.tensor([4, 2, 0, 1, 3])]
    torch.testing.assert_close(token_weights(own, other, "mean"), token_weights(own, shuffled, "mean"))


def test_half_precision_tokens_are_averaged_in_float32():
    tokens = torch.randn(2, 6, 4).bfloat16()
    weights = torch.ones(2, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        feature = refined_feature(tokens, weights)
    assert feature.dtype == torch.float32
    torch.testing.assert_close(feature, tokens.float().mean(1))
