"""The decoder of a masked autoencoder, and pictures of what it reconstructs.

Shapes: B samples, X class tokens (0 or 1), K visible, M masked, N = K + M tokens in all, D and E encoder and decoder widths,
P values a patch.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from xkd.kernels.decoder_assemble import decoder_assemble, take_tokens
from xkd.kernels.masked_recon_loss import patch_statistics
from xkd.kernels.patch_gather import patch_gather
from xkd.kernels.random_mask import Mask
from xkd.model.config import TransformerConfig
from xkd.model.tokenizers import Tokenizer, volume
from xkd.model.vit import Encoder, run_block, transformer_blocks


class Decoder(nn.Module):
    """Predicts the masked patches [B, M, P] from the visible tokens' encodings [B, X+K, D]."""

    def __init__(self, tokenizer: Tokenizer, in_dim: int, shape: TransformerConfig, checkpointing: bool = False):
        super().__init__()
        self.checkpointing = checkpointing
        self.num_class = tokenizer.num_class
        self.embedding = nn.Linear(in_dim, shape.dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, shape.dim))
        self.positions = nn.Parameter(torch.empty(1, self.num_class + tokenizer.num_tokens, shape.dim))
        self.blocks = transformer_blocks(shape)
        self.prediction = nn.Linear(shape.dim, tokenizer.projection.in_features)

    def forward(self, visible: Tensor, mask: Mask) -> Tensor:
        tokens = decoder_assemble(self.embedding(visible), self.mask_token[0, 0], self.positions[0], mask.restore)
        for block in self.blocks:
            tokens = run_block(block, tokens, self.checkpointing)
        return self.prediction(take_tokens(tokens, mask.drop + self.num_class))


class Reconstruction(NamedTuple):
    """One batch of pictures, each shaped like the clip and in its (normalised) units."""

    masked: Tensor  # the clip with 0, the normalised mean, in masked places
    reconstruction: Tensor  # the clip with predictions in masked places
    original: Tensor
    mask: Tensor  # bool, True in masked places


@torch.no_grad()
def reconstruct(encoder: Encoder, decoder: Decoder, clip: Tensor, mask: Mask, norm_pix_loss: bool) -> Reconstruction:
    """What the autoencoder makes of the masked patches of a clip.

    With `norm_pix_loss` the network predicts standardised patches; they are put back to scale with each original patch's own mean
    and deviation. So the pictures know brightness and contrast of what was masked: they show structure, not prediction of level.
    """
    tokenizer = encoder.tokenizer
    patches_BNP = patch_gather(volume(clip), None, tokenizer.patch)
    predicted_BMP = decoder(encoder(clip, mask.keep), mask).to(patches_BNP.dtype)
    if norm_pix_loss:
        mean, std = patch_statistics(take_tokens(patches_BNP, mask.drop))
        predicted_BMP = predicted_BMP * std + mean
    filled_BNP = patches_BNP.scatter(1, mask.drop[..., None].expand_as(predicted_BMP), predicted_BMP)
    mask_BNP = mask.mask[..., None].expand_as(patches_BNP)
    pictures = (patches_BNP.masked_fill(mask_BNP, 0), filled_BNP, patches_BNP, mask_BNP)
    return Reconstruction(*(tokenizer.unpatchify(patches, like=clip) for patches in pictures))
