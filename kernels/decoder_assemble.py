"""Puts mask tokens back between the visible tokens and adds the decoder's positions.

Shapes: B samples, C leading class tokens (0 or 1), K visible tokens, N tokens in all, D channels.
"""

import torch
from torch import Tensor


def decoder_assemble(tokens_BXD: Tensor, mask_token_D: Tensor, positions_YD: Tensor, restore_BN: Tensor) -> Tensor:
    """The decoder's input [B, C+N, D] from `tokens_BXD`, X = C+K, and `positions_YD`, Y = C+N.

        out[b, c]     = tokens[b, c] + positions[c]                                       for the C class tokens
        out[b, C + n] = (tokens[b, C + r] if r < K else mask_token) + positions[C + n],   r = restore[b, n]

    `restore_BN` is that of `random_mask`: the place of token n in [visible; masked].
    """
    batch, num_tokens = restore_BN.shape
    num_class = len(positions_YD) - num_tokens
    num_keep = tokens_BXD.shape[1] - num_class
    assert num_class in (0, 1), f"{len(positions_YD)} positions for {num_tokens} tokens"
    # The mask token joins as one more source row, so that every output row is a row of `sources`.
    mask_B1D = mask_token_D.to(tokens_BXD.dtype).expand(batch, 1, -1)
    sources_BSD = torch.cat([tokens_BXD, mask_B1D], dim=1)
    index_BN = restore_BN.clamp(max=num_keep) + num_class
    index_BY = torch.cat([index_BN.new_zeros(batch, num_class), index_BN], dim=1)
    return take_tokens(sources_BSD, index_BY) + positions_YD


def take_tokens(tokens_BND: Tensor, ids_BK: Tensor) -> Tensor:
    """tokens[b, ids[b, k]] as [B, K, D]: a row gather, whose backward is an index_add rather than an element scatter."""
    batch, num_tokens, _ = tokens_BND.shape
    offsets_B1 = torch.arange(batch, device=ids_BK.device)[:, None] * num_tokens
    return tokens_BND.flatten(0, 1).index_select(0, (ids_BK + offsets_B1).flatten()).unflatten(0, ids_BK.shape)
