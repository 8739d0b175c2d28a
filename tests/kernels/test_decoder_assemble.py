"""Every token of the decoder's input is the right row, with its own position."""

import pytest
import torch

from xkd.kernels.decoder_assemble import decoder_assemble, take_tokens
from xkd.kernels.random_mask import random_mask

NUM_TOKENS, NUM_KEEP, DIM = 9, 4, 5


def inputs(num_class, dtype=torch.float64):
    torch.manual_seed(0)
    mask = random_mask(0, 0, 0, 0, 3, NUM_TOKENS, NUM_KEEP)
    tokens = torch.randn(3, num_class + NUM_KEEP, DIM, dtype=dtype)
    return tokens, torch.randn(DIM, dtype=dtype), torch.randn(num_class + NUM_TOKENS, DIM, dtype=dtype), mask


@pytest.mark.parametrize("num_class", [0, 1])
def test_visible_tokens_return_to_their_places_and_mask_tokens_fill_the_rest(num_class):
    tokens, mask_token, positions, mask = inputs(num_class)
    out = decoder_assemble(tokens, mask_token, positions, mask.restore)
    expected = mask_token.expand(3, num_class + NUM_TOKENS, DIM).clone()
    for sample in range(3):
        for c in range(num_class):
            expected[sample, c] = tokens[sample, c]
        for k, place in enumerate(mask.keep[sample].tolist()):
            expected[sample, num_class + place] = tokens[sample, num_class + k]
    assert torch.equal(out, expected + positions)


@pytest.mark.parametrize("num_class", [0, 1])
def test_the_gradient_is_that_of_finite_differences(num_class):
    *tensors, mask = inputs(num_class)
    weight = torch.randn(3, num_class + NUM_TOKENS, DIM, dtype=torch.float64)
    tensors = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda *args: decoder_assemble(*args, mask.restore) * weight, tensors)


def test_taking_tokens_is_a_gather_of_rows():
    tokens, ids = torch.randn(2, 6, 3), torch.tensor([[5, 0, 5], [1, 2, 3]])
    assert torch.equal(take_tokens(tokens, ids), tokens.gather(1, ids[..., None].expand(-1, -1, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"restore": torch.zeros(9, dtype=torch.int64)}, r"restore \(9,\): needs 3, 2, 2 dimensions"),
        ({"restore": torch.zeros(3, 9)}, r"torch.float32\]: needs floating point, and int64 or int32 for restore"),
        ({"tokens": torch.zeros(3, 5, 4, dtype=torch.int64)}, "needs floating point"),
        ({"positions": torch.zeros(12, 4)}, "12 positions for 9 tokens: needs as many, or 1 more"),
        ({"mask_token": torch.zeros(5)}, r"mask_token \(5,\) do not fit restore \(3, 9\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"tokens": torch.zeros(3, 5, 4), "mask_token": torch.zeros(4), "positions": torch.zeros(10, 4)}
    given |= {"restore": torch.zeros(3, 9, dtype=torch.int64)} | change
    with pytest.raises(ValueError, match=message):
        decoder_assemble(*given.values())
