"""Parity of one modality: the encoder, and the masked autoencoder."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from xkd.benchmarks.parity_geometry import DECODER_HEADS, ENCODER_HEADS, Shape, heads, patches
from xkd.benchmarks.parity_rows import LOSS, Comparison, Golden, Row, close, exact, first_that_passes, gradients, relative
from xkd.kernels.decoder_assemble import take_tokens
from xkd.kernels.masked_recon_loss import masked_recon_loss
from xkd.kernels.patch_gather import patch_gather
from xkd.kernels.random_mask import random_mask
from xkd.model.autoencoder import Decoder
from xkd.model.config import Modality, TransformerConfig
from xkd.model.geometry import by
from xkd.model.tokenizers import Tokenizer, volume
from xkd.model.vit import Encoder, transformer_blocks
from xkd.release.geometry import decoder_config, encoder_config, modality_of
from xkd.release.keys import EMBEDDINGS, autoencoder_tensors, below, encoder_tensors, fill


@dataclass(frozen=True)
class Reading:
    """How an encoder's file is read: what is inferred or given, not stored."""

    modality: Modality
    shape: TransformerConfig
    patch: Shape
    norm_pix_loss: bool | None = None

    def __str__(self) -> str:
        loss = "" if self.norm_pix_loss is None else f", norm_pix_loss {str(self.norm_pix_loss).lower()}"
        return f"{self.modality} in tokens of {by(self.patch)}, {self.shape.heads} heads{loss}"


def compare_encoder(golden: Golden, given_heads: int | None) -> Comparison:
    state = golden.state()
    views = [view for view in ("global", "local") if f"x_{view}" in golden]
    stored = golden["attn_global"].shape[1] if "attn_global" in golden else given_heads
    readings = _readings(state, [golden[f"x_{view}"].shape[1:] for view in views], stored, golden.name)
    return first_that_passes(readings, lambda reading: _encoder(golden, state, views, reading))


@torch.no_grad()
def _encoder(golden: Golden, state: dict[str, Tensor], views: list[str], reading: Reading) -> Iterator[Row]:
    encoder = build_encoder(state, reading, golden["x_global"].shape[1:])
    fill(encoder_tensors(encoder), state, golden.name)
    tokenizer, num_class = encoder.tokenizer, encoder.tokenizer.num_class
    for view in views:
        clip = golden.real(f"x_{view}")
        if f"patches_{view}0" in golden:
            first = golden[f"patches_{view}0"]
            patches_BNP = patch_gather(volume(clip), None, tokenizer.patch)
            yield exact(f"patches_{view}0", patches_BNP[: len(first), : first.shape[1]], first)
        if f"pos_{view}" in golden:
            positions_ND = torch.cat([tokenizer.positions[0, :num_class], tokenizer.positions_of(clip)])
            yield close(f"pos_{view}", positions_ND, golden[f"pos_{view}"][0])
        tokens, attention_BHN = encoder(clip, with_attention=True)
        yield close(f"tok_{view}", tokens, golden[f"tok_{view}"])
        yield close(f"attn_{view}", attention_BHN, _attention_to_patches(golden[f"attn_{view}"], num_class))


def _attention_to_patches(attention_BHNN: Tensor, num_class: int) -> Tensor:
    """The class token's row, or without one the mean over all rows; without the class token's column."""
    return attention_BHNN[:, :, 0, 1:] if num_class else attention_BHNN.mean(2)


def compare_autoencoder(golden: Golden, given_heads: int | None, given_decoder_heads: int | None) -> Comparison:
    state = golden.state()
    readings = _readings(below(state, "encoder."), [golden["x"].shape[1:]], given_heads, golden.name, (True, False))
    decoder_heads = heads(state["mask_token"].shape[-1], DECODER_HEADS, given_decoder_heads)
    shape = decoder_config(state, decoder_heads, golden.name)
    return first_that_passes(readings, lambda reading: _autoencoder(golden, state, reading, shape))


def _autoencoder(golden: Golden, state: dict[str, Tensor], reading: Reading, shape: TransformerConfig) -> Iterator[Row]:
    clip, noise_BN, latent = golden.real("x"), golden["noise"], golden["latent"]
    encoder = build_encoder(below(state, "encoder."), reading, clip.shape[1:])
    decoder = Decoder(encoder.tokenizer, reading.shape.dim, shape)
    tensors = autoencoder_tensors(encoder, decoder)
    fill(tensors, state, golden.name)
    num_keep = latent.shape[1] - encoder.tokenizer.num_class
    mask = random_mask(0, 0, 0, 0, *noise_BN.shape, num_keep, noise=noise_BN)
    visible = encoder(clip, mask.keep)
    yield exact("mask", mask.mask, golden["mask"])
    yield exact("ids_restore", mask.restore, golden["ids_restore"])
    yield close("latent", visible, latent)
    predicted = decoder(visible, mask)
    yield close("pred, masked tokens", predicted, take_tokens(golden["pred"], mask.drop))
    loss = masked_recon_loss(volume(clip), mask.drop, predicted, encoder.tokenizer.patch, reading.norm_pix_loss)
    yield relative("loss", loss, golden["loss"], LOSS)
    loss.backward()
    yield from gradients(golden, tensors)


def build_encoder(state: dict[str, Tensor], reading: Reading, view: Shape) -> Encoder:
    has_class = "cls_token" in state
    tokenizer = Tokenizer(tuple(view), reading.patch, reading.shape.dim, has_class, f"global {reading.modality} view")
    return Encoder(tokenizer, transformer_blocks(reading.shape), reading.shape.dim)


def _readings(state, views: list[Shape], given_heads: int | None, source: str, norm_pix=(None,)) -> list[Reading]:
    modality = modality_of(state, source)
    dim, values = state[f"{EMBEDDINGS[modality]}.proj.weight"].shape
    shape = encoder_config(state, heads(dim, ENCODER_HEADS, given_heads), source)
    return [Reading(modality, shape, patch, norm) for patch in patches(modality, values, views) for norm in norm_pix]
