"""One step of XKD as method.md states it, for the tests: nothing is fused, nothing left out.

All patches are embedded, attention matrices and the outer product of the modalities are formed, the decoder predicts every token,
pairs of views are looped over. Heads and interpolated positions are the network's own (tests of their own check them).
"""

import torch
import torch.nn.functional as F

from xkd.kernels.mmd import GAMMAS
from xkd.model.xkd import OTHER


def attend(block, x):
    """A pre-norm block, and its attention matrix [B, H, N, N]."""
    attn = block.attn
    q, k, v = ((block.norm1(x) @ w.T).unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for w in attn.qkv.weight.chunk(3))
    matrix = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    x = x + attn.proj((matrix @ v).transpose(1, 2).flatten(2))
    return x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x)))), matrix


def patches(clip, patch):
    """[B, N, P]: tokens (t h w) of values (pt ph pw c)."""
    clip = clip.unsqueeze(2) if clip.ndim == 4 else clip
    cut = clip
    for dim, side in zip((2, 3, 4), patch, strict=True):
        cut = cut.unfold(dim, side, side)
    return cut.permute(0, 2, 3, 4, 5, 6, 7, 1).flatten(1, 3).flatten(2)


def encode(encoder, clip, keep=None):
    """Tokens, and the last block's attention matrix."""
    tokenizer = encoder.tokenizer
    x = tokenizer.projection(patches(clip, tokenizer.patch)) + tokenizer.positions_of(clip)
    if keep is not None:
        x = torch.stack([tokens[ids] for tokens, ids in zip(x, keep, strict=True)])
    if tokenizer.num_class:
        x = torch.cat([(tokenizer.cls_token + tokenizer.positions[:, :1]).expand(len(x), -1, -1), x], 1)
    for block in encoder.blocks:
        x, matrix = attend(block, x)
    return encoder.norm(x), matrix


def reconstruction(student, clip, noise, num_keep, norm_pix_loss, num_class):
    """The visible tokens and the loss of one modality; the decoder predicts every token."""
    order = noise.argsort(1)
    keep, drop, decoder = order[:, :num_keep], order[:, num_keep:], student.decoder
    visible, _ = encode(student.encoder, clip, keep)
    embedded = decoder.embedding(visible)
    target = patches(clip, student.encoder.tokenizer.patch)
    if norm_pix_loss:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    errors = []
    for b in range(len(clip)):
        tokens = decoder.mask_token[0].repeat(len(target[b]), 1)
        tokens[keep[b]] = embedded[b, num_class:]
        x = (torch.cat([embedded[b, :num_class], tokens]) + decoder.positions[0])[None]
        for block in decoder.blocks:
            x, _ = attend(block, x)
        errors.append((decoder.prediction(x)[0, num_class:] - target[b]).square().mean(-1)[drop[b]])
    return visible[:, num_class:], torch.stack(errors).mean()


def refine(f, own, other, mode):
    product = (own[..., :, None] * other[..., None, :]).mean(-1)
    weighting = {"mean": lambda: product / own.mean(-1, keepdim=True), "softmax": lambda: product.softmax(-1)}
    w = weighting.get(mode, lambda: torch.ones_like(product))().mean(1)
    refined = (w[..., None] * f).mean(1)
    return refined * (f.mean(1).square().sum(-1) / refined.square().sum(-1)).sqrt()[:, None]


def discrepancy(x, y):
    def kernel(a, b):
        distances = (a[:, None] - b[None]).square().sum(-1)
        return sum(torch.exp(-gamma * distances) for gamma in GAMMAS).mean()

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def written_out(xkd, batch, noise):
    """All named parts of the loss."""
    model, loss = xkd.model_config, xkd.loss_config
    num_class, parts, student_views, tokens, attention = int(model.cls_token), {}, {}, {}, {}
    for modality, (clip, local) in {"video": batch[:2], "audio": batch[2:]}.items():
        student, teacher = (getattr(xkd, f"{modality}_{role}") for role in ("student", "teacher"))
        num_keep = round(noise[modality].shape[1] * (1 - getattr(model, modality).mask_ratio))
        args = (clip, noise[modality], num_keep, loss.norm_pix_loss, num_class)
        visible, parts[f"recon_{modality}"] = reconstruction(student, *args)
        views = [visible.mean(1)] + [encode(student.encoder, view)[0][:, num_class:].mean(1) for view in local.unbind(1)]
        student_views[modality] = [student.head(view) for view in views]
        encoded, matrix = encode(teacher.encoder, local[:, 0] if model.teacher_view == "local" else clip)
        tokens[modality] = encoded[:, num_class:]
        attention[modality] = matrix[:, :, 0, 1:] if num_class else matrix.mean(2)
    outputs = {}
    for modality, other in OTHER.items():
        feature = refine(tokens[modality], attention[modality], attention[other], model.refinement)
        outputs[modality] = getattr(xkd, f"{modality}_teacher").head(feature)
    for name, source in (("v2a", "video"), ("a2v", "audio")):
        center = getattr(xkd, f"{source}_teacher").center
        p = ((outputs[source] - center) / getattr(loss, source).teacher_temperature).softmax(-1)
        temperature = loss.student_temperature_of(OTHER[source])
        pairs = [-(p * (view / temperature).log_softmax(-1)).sum(-1).mean() for view in student_views[OTHER[source]]]
        parts[name] = sum(pairs) / len(pairs)
    parts["align_student"] = discrepancy(*(torch.cat(student_views[modality]) for modality in OTHER))
    parts["align_teacher"] = discrepancy(outputs["video"], outputs["audio"])
    for name, halves in {"recon": ("recon_video", "recon_audio"), "cmkd": ("v2a", "a2v")}.items():
        parts[name] = sum(parts[half] for half in halves) / 2
    return parts | {"align": (parts["align_student"] + parts["align_teacher"]) / 2}
