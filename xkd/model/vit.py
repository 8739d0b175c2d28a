"""The vision transformer that encodes both modalities.

Shapes: B samples, N tokens, K chosen ones, X class tokens (0 or 1), H heads, D width.
"""

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xkd.kernels.precision import at_least_float32
from xkd.model.config import TransformerConfig
from xkd.model.tokenizers import Tokenizer

LAYER_NORM_EPSILON = 1e-5


def transformer_blocks(shape: TransformerConfig) -> nn.ModuleList:
    """Pre-norm blocks: mlp ratio 4, GELU, no bias on queries, keys and values."""
    norm = partial(nn.LayerNorm, eps=LAYER_NORM_EPSILON)
    return nn.ModuleList(Block(shape.dim, shape.heads, qkv_bias=False, norm_layer=norm) for _ in range(shape.depth))


def run_block(block: Block, tokens: Tensor, checkpointing: bool) -> Tensor:
    """The block's output; with `checkpointing` the backward computes its activations again instead of keeping them."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(block, tokens, use_reentrant=False, preserve_rng_state=False)  # a block draws no random numbers
    return block(tokens)


class Encoder(nn.Module):
    """Tokenizer, transformer blocks, final norm: `encoder(clip)` is [B, X+N, D], class token first."""

    def __init__(self, tokenizer: Tokenizer, blocks: nn.ModuleList, dim: int, checkpointing: bool = False):
        super().__init__()
        self.checkpointing = checkpointing
        self.tokenizer = tokenizer
        self.blocks = blocks
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPSILON)

    def forward(self, clip: Tensor, keep_BK: Tensor | None = None, with_attention: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Tokens of the chosen patches, or of all; `with_attention` also returns the last block's attention [B, H, N]."""
        tokens = self.tokenizer(clip, keep_BK)
        *first_blocks, last_block = self.blocks
        for block in first_blocks:
            tokens = run_block(block, tokens, self.checkpointing)
        attention_BHN = token_attention(last_block, tokens, self.tokenizer.num_class) if with_attention else None
        tokens = self.norm(run_block(last_block, tokens, self.checkpointing))
        return (tokens, attention_BHN) if with_attention else tokens

    def features(self, clip: Tensor) -> Tensor:
        """One feature a clip [B, D]: the mean of the patch tokens after the final norm, without the class token."""
        return self.patch_tokens(self(clip)).mean(1)

    def patch_tokens(self, tokens: Tensor) -> Tensor:
        """The tokens [B, N, D] without the class token."""
        return tokens[:, self.tokenizer.num_class :]


def token_attention(block: Block, tokens: Tensor, num_class: int) -> Tensor:
    """How much a block attends to each patch token [B, H, N]: the class token's row, or without one the mean over all rows.

    The class token's row is taken alone, so that the block itself may use fused attention: q . (W_k x) = (W_k' q) . x moves the key
    projection from every token to one query a head.
    """
    attention = block.attn
    x = block.norm1(tokens)
    weight_q, weight_k = (w.unflatten(0, (attention.num_heads, -1)) for w in attention.qkv.weight.chunk(3)[:2])
    queries = x[:, :num_class] if num_class else x
    q_BHQd = torch.einsum("bqc,hdc->bhqd", queries, weight_q)
    if num_class:
        query_on_x = torch.einsum("bhqd,hdc->bhqc", q_BHQd, weight_k)
        logits_BHQN = torch.einsum("bhqc,bnc->bhqn", query_on_x, x)
    else:
        logits_BHQN = q_BHQd @ torch.einsum("bnc,hdc->bhdn", x, weight_k)
    probabilities = (at_least_float32(logits_BHQN) * attention.scale).softmax(-1)
    return probabilities.mean(2)[..., num_class:]
