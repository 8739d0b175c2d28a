"""The encoder: its attention of one query, its features, its indifference to the order of tokens."""

import pytest
import torch

from tests.model.tiny import LOCAL_VIDEO, VIDEO, shake, tiny_xkd


def encoder(cls_token=True):
    module = tiny_xkd(cls_token=cls_token, dtype=torch.float64).video_student.encoder
    shake(module)
    return module.double()


def clip(shape=VIDEO):
    return torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def whole_attention(module, x):
    """The last block's attention matrix [B, H, N, N], formed in the plain way."""
    tokens = module.tokenizer(x)
    for block in module.blocks[:-1]:
        tokens = block(tokens)
    attention = module.blocks[-1].attn
    qkv = attention.qkv(module.blocks[-1].norm1(tokens))
    q, k, _ = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return (q @ k.transpose(-1, -2) * attention.head_dim**-0.5).softmax(-1)


@pytest.mark.parametrize("shape", [VIDEO, LOCAL_VIDEO])
def test_the_class_tokens_attention_is_its_row_of_the_whole_matrix(shape):
    module, x = encoder(), clip(shape)
    _, attention = module(x, with_attention=True)
    torch.testing.assert_close(attention, whole_attention(module, x)[:, :, 0, 1:])


def test_without_a_class_token_the_attention_is_the_mean_row():
    module, x = encoder(cls_token=False), clip()
    _, attention = module(x, with_attention=True)
    torch.testing.assert_close(attention, whole_attention(module, x).mean(2))


@pytest.mark.parametrize("cls_token", [True, False])
def test_asking_for_attention_does_not_change_the_tokens(cls_token):
    module, x = encoder(cls_token), clip()
    tokens, _ = module(x, with_attention=True)
    assert torch.equal(tokens, module(x))
    assert tokens.shape == (3, 8 + cls_token, 12)


@pytest.mark.parametrize("cls_token", [True, False])
def test_features_are_the_mean_of_the_normalised_patch_tokens(cls_token):
    module, x = encoder(cls_token), clip()
    torch.testing.assert_close(module.features(x), module(x)[:, int(cls_token) :].mean(1))


def test_tokens_do_not_depend_on_the_order_in_which_they_are_kept():
    module, x = encoder(), clip()
    order = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(i)) for i in range(3)])
    kept = module.patch_tokens(module(x, order))
    torch.testing.assert_close(kept, module.patch_tokens(module(x)).gather(1, order[..., None].expand_as(kept)))


def test_queries_keys_and_values_have_no_bias():
    assert all(block.attn.qkv.bias is None for block in encoder().blocks)
