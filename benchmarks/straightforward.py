"""A step of XKD as the method's formulas state it, on our network's parameters: nothing is fused and nothing left out.

All patches are embedded and the visible ones taken then; attention matrices and the outer product of the modalities are formed; the
decoder predicts every token; pairs of views, tensors of the clip, AdamW and the moving average are looped over. What the benchmark
`model` measures ours against, and what the tests hold ours to in float64. Heads and interpolated positions are the network's own.

Shapes: B samples, N tokens, K visible, X class tokens (0 or 1), H heads, D width, P values a patch.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor

from xkd.kernels.mmd import GAMMAS
from xkd.model.networks import Student
from xkd.model.vit import Encoder
from xkd.model.xkd import OTHER, XKD


def attend(block: Block, x: Tensor) -> tuple[Tensor, Tensor]:
    """A pre-norm block, and its attention matrix [B, H, N, N]."""
    attn = block.attn
    q, k, v = attn.qkv(block.norm1(x)).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    matrix = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    x = x + attn.proj((matrix @ v).transpose(1, 2).flatten(2))
    return x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x)))), matrix


def patches(clip: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """All patches [B, N, P]: tokens (t h w) of values (pt ph pw c)."""
    cut = clip.unsqueeze(2) if clip.ndim == 4 else clip
    for dim, side in zip((2, 3, 4), patch, strict=True):
        cut = cut.unfold(dim, side, side)
    return cut.permute(0, 2, 3, 4, 5, 6, 7, 1).flatten(1, 3).flatten(2)


def take(x: Tensor, ids: Tensor) -> Tensor:
    return x.gather(1, ids[..., None].expand(-1, -1, x.shape[-1]))


def encode(encoder: Encoder, clip: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Tokens [B, X+N, D] or [B, X+K, D], and the last block's attention matrix."""
    tokenizer = encoder.tokenizer
    x = tokenizer.projection(patches(clip, tokenizer.patch)) + tokenizer.positions_of(clip)
    if keep is not None:
        x = take(x, keep)
    if tokenizer.num_class:
        x = torch.cat([(tokenizer.cls_token + tokenizer.positions[:, :1]).expand(len(x), -1, -1), x], 1)
    for block in encoder.blocks:
        x, matrix = attend(block, x)
    return encoder.norm(x), matrix


def reconstruction(student: Student, clip: Tensor, noise: Tensor, num_keep: int, norm_pix_loss: bool) -> tuple[Tensor, Tensor]:
    """The visible patches' tokens and the loss of one modality."""
    order, num_class, decoder = noise.argsort(1), student.encoder.tokenizer.num_class, student.decoder
    keep, drop = order[:, :num_keep], order[:, num_keep:]
    visible, _ = encode(student.encoder, clip, keep)
    embedded = decoder.embedding(visible)
    shuffled = torch.cat([embedded[:, num_class:], decoder.mask_token.expand(*drop.shape, -1)], 1)
    x = torch.cat([embedded[:, :num_class], take(shuffled, order.argsort(1))], 1) + decoder.positions
    for block in decoder.blocks:
        x, _ = attend(block, x)
    predicted = decoder.prediction(x)[:, num_class:]
    target = patches(clip, student.encoder.tokenizer.patch)
    if norm_pix_loss:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    error = (predicted - target).square().mean(-1)
    masked = torch.zeros_like(error).scatter(1, drop, 1.0)
    return visible[:, num_class:], (error * masked).sum() / masked.sum()


def refine(tokens: Tensor, own: Tensor, other: Tensor, mode: str) -> Tensor:
    """The refined feature [B, D] from attention [B, H, N] of this modality and of the other."""
    product = (own[..., :, None] * other[..., None, :]).mean(-1)
    weighting = {"mean": lambda: product / own.mean(-1, keepdim=True), "softmax": lambda: product.softmax(-1)}
    weights = weighting.get(mode, lambda: torch.ones_like(product))().mean(1)
    refined = (weights[..., None] * tokens).mean(1)
    return refined * (tokens.mean(1).square().sum(-1) / refined.square().sum(-1)).sqrt()[:, None]


def discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """MMD of rows, from their differences: the expansion of the square would not be sound in float32."""

    def kernel(a, b):
        distances = (a[:, None] - b[None]).square().sum(-1)
        return sum(torch.exp(-gamma * distances) for gamma in GAMMAS).mean()

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


@torch.no_grad()
def teach(xkd: XKD, clips: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The teachers' outputs."""
    tokens, attention = {}, {}
    for modality, clip in clips.items():
        encoder = getattr(xkd, f"{modality}_teacher").encoder
        encoded, matrix = encode(encoder, clip)
        num_class = encoder.tokenizer.num_class
        tokens[modality] = encoded[:, num_class:]
        attention[modality] = matrix[:, :, 0, 1:] if num_class else matrix.mean(2)
    refined = {
        one: refine(tokens[one], attention[one], attention[other], xkd.model_config.refinement) for one, other in OTHER.items()
    }
    return {modality: getattr(xkd, f"{modality}_teacher").head(feature) for modality, feature in refined.items()}


def forward(xkd: XKD, batch: Sequence[Tensor], noise: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All named parts of the loss and `loss` itself, whatever their weights, and the teachers' outputs.

    `batch` is that of `XKD.forward`, with local views.
    """
    model, config = xkd.model_config, xkd.loss_config
    parts, views, clips = {}, {}, {}
    for modality, (clip, local) in {"video": batch[:2], "audio": batch[2:]}.items():
        student = getattr(xkd, f"{modality}_student")
        num_keep = round(noise[modality].shape[1] * (1 - getattr(model, modality).mask_ratio))
        visible, parts[f"recon_{modality}"] = reconstruction(student, clip, noise[modality], num_keep, config.norm_pix_loss)
        num_class = student.encoder.tokenizer.num_class
        features = [visible.mean(1)] + [encode(student.encoder, view)[0][:, num_class:].mean(1) for view in local.unbind(1)]
        views[modality] = student.head(torch.stack(features))
        clips[modality] = local[:, 0] if model.teacher_view == "local" else clip
    outputs = teach(xkd, clips)
    for name, source in (("v2a", "video"), ("a2v", "audio")):
        center = getattr(xkd, f"{source}_teacher").center
        target = ((outputs[source] - center) / getattr(config, source).teacher_temperature_at(0)).softmax(-1)
        temperature = config.student_temperature_of(OTHER[source])
        pairs = [-(target * (view / temperature).log_softmax(-1)).sum(-1).mean() for view in views[OTHER[source]]]
        parts[name] = sum(pairs) / len(pairs)
    parts["align_student"] = discrepancy(*(views[modality].flatten(0, 1) for modality in OTHER))
    parts["align_teacher"] = discrepancy(outputs["video"], outputs["audio"])
    for name, halves in {
        "recon": ("recon_video", "recon_audio"),
        "cmkd": ("v2a", "a2v"),
        "align": ("align_student", "align_teacher"),
    }.items():
        parts[name] = sum(parts[half] for half in halves) / 2
    weights = config.weights
    weighted = weights.recon * parts["recon"] + weights.cmkd * parts["cmkd"] + weights.align * parts["align"]
    return parts | {"loss": weighted / (weights.recon + weights.cmkd + weights.align)}, outputs


def clip_gradients(gradients: Sequence[Tensor], max_norms: Sequence[float]) -> None:
    """g * min(1, max_norm / (||g|| + 1e-6)) of each tensor that has a largest norm."""
    for gradient, max_norm in zip(gradients, max_norms, strict=True):
        if max_norm < math.inf and (coefficient := max_norm / (gradient.norm().item() + 1e-6)) < 1:
            gradient.mul_(coefficient)


@torch.no_grad()
def follow(pairs: Sequence[tuple[Tensor, Tensor]], momentum: float) -> None:
    """teacher <- momentum teacher + (1 - momentum) student of each pair."""
    for teacher, student in pairs:
        teacher.mul_(momentum).add_(student, alpha=1 - momentum)
