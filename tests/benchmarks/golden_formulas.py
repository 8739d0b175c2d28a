"""The method's formulas in float64, plain and slow, on state dicts under released names: what golden files are made of.

Written from the method's description alone: all patches are embedded and then chosen, attention and outer products are formed.
"""

import itertools

import torch
import torch.nn.functional as F

GAMMAS = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0)
HEADS = 3
NETS = ("vid_student", "aud_student", "vid_teacher", "aud_teacher")


def below(state, prefix):
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def linear(x, state, name):
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def norm(x, state, name):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def blocks(x, state, prefix):
    """The tokens after all blocks, and the last one's attention [B, H, N, N]."""
    attention = None
    for index in itertools.count():
        name = f"{prefix}.{index}"
        if f"{name}.norm1.weight" not in state:
            return x, attention
        qkv = linear(norm(x, state, f"{name}.norm1"), state, f"{name}.attn.qkv").unflatten(-1, (3, HEADS, -1))
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        x = x + linear((attention @ v).transpose(1, 2).flatten(2), state, f"{name}.attn.proj")
        hidden = F.gelu(linear(norm(x, state, f"{name}.norm2"), state, f"{name}.mlp.fc1"))
        x = x + linear(hidden, state, f"{name}.mlp.fc2")


def patchify(clip, patch):
    """[B, N, P]: tokens (t h w), values (pt ph pw c)."""
    if clip.ndim == 4:
        clip, patch = clip[:, :, None], (1, *patch)
    batch, channels, *sides = clip.shape
    (nt, pt), (nh, ph), (nw, pw) = ((side // p, p) for side, p in zip(sides, patch, strict=True))
    cut = clip.reshape(batch, channels, nt, pt, nh, ph, nw, pw).permute(0, 2, 4, 6, 3, 5, 7, 1)
    return cut.reshape(batch, nt * nh * nw, -1)


def positions(state, view, patch, trained):
    """Positions of a view; `trained` is the shape of the view that they were learned for."""
    learned, num_class = state["enc_pos_embed"], int("cls_token" in state)
    new, old = (tuple(side // p for side, p in zip(shape[1:], patch, strict=True)) for shape in (view, trained))
    if new == old:
        return learned
    grid = learned[:, num_class:].mT.unflatten(2, old)
    scale = [1.0 if n == o else (n + 0.1) / o for n, o in zip(new, old, strict=True)]
    mode = "trilinear" if len(new) == 3 else "bicubic"
    resized = F.interpolate(grid, scale_factor=scale, mode=mode, align_corners=False)
    return torch.cat([learned[:, :num_class], resized.flatten(2).mT], dim=1)


def encode(state, clip, patch, trained, keep=None):
    """Tokens after the final norm, class token first, and the last attention."""
    name, num_class = "cuboid_embed.proj" if clip.ndim == 5 else "patch_embed.proj", int("cls_token" in state)
    place = positions(state, clip.shape[1:], patch, trained)
    x = linear(patchify(clip, patch), state, name) + place[:, num_class:]
    if keep is not None:
        x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
    if num_class:
        x = torch.cat([(state["cls_token"] + place[:, :1]).expand(len(x), -1, -1), x], dim=1)
    x, attention = blocks(x, state, "encoder.blocks")
    return norm(x, state, "encoder_norm"), attention


def masks(noise, ratio):
    """ids_keep, ids_restore, mask of the round(N (1 - ratio)) smallest."""
    order = noise.argsort(dim=1, stable=True)
    num_keep = round(noise.shape[1] * (1 - ratio))
    restore = order.argsort(dim=1)
    return order[:, :num_keep], restore, (restore >= num_keep).to(noise.dtype)


def autoencode(state, encoder, clip, patch, noise, ratio, norm_pix_loss):
    """Visible tokens, predictions of all tokens, loss over the masked ones, and the masks."""
    keep, restore, mask = masks(noise, ratio)
    num_class = int("cls_token" in encoder)
    latent, _ = encode(encoder, clip, patch, clip.shape[1:], keep)
    x = linear(latent, state, "mid_proj")
    visible = x[:, num_class:]
    hidden = state["mask_token"].expand(len(x), noise.shape[1] - visible.shape[1], -1)
    whole = torch.cat([visible, hidden], dim=1).gather(1, restore[..., None].expand(-1, -1, x.shape[-1]))
    decoded, _ = blocks(torch.cat([x[:, :num_class], whole], dim=1) + state["dec_pos_embed"], state, "decoder.blocks")
    pred = linear(decoded, state, "out_proj")[:, num_class:]
    target = patchify(clip, patch)
    if norm_pix_loss:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    loss = ((pred - target).square().mean(-1) * mask).sum() / mask.sum()
    return latent, pred, loss, (keep, restore, mask)


def head(state, x):
    last = max(int(key.split(".")[1]) for key in state if key.startswith("mlp."))
    for index in range(0, last, 3):
        x = F.gelu(norm(linear(x, state, f"mlp.{index}"), state, f"mlp.{index + 1}"))
    z = linear(x, state, f"mlp.{last}")
    v = state["last_layer.weight_v"]
    y = z / z.norm(dim=-1, keepdim=True) @ (state["last_layer.weight_g"] * v / v.norm(dim=1, keepdim=True)).mT
    return F.layer_norm(y, y.shape[-1:])


def mmd(x, y):
    z = torch.cat([x, y])
    distances = (z[:, None] - z).square().sum(-1)
    kernel = sum(torch.exp(-gamma * distances) for gamma in GAMMAS)
    n = len(x)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def distill(teacher, center, student, teacher_temperature, student_temperature):
    """The mean over all pairs of views [V, B, D] and [U, B, D]."""
    p = ((teacher - center) / teacher_temperature).softmax(-1)
    log_q = (student / student_temperature).log_softmax(-1)
    return torch.stack([-(t * s).sum(-1).mean() for t in p for s in log_q]).mean()


def refine(own, other, features, mode):
    """Refined attention [B, H, N] and features [B, N, D], by the outer product."""
    product = (own[..., :, None] * other[..., None, :]).mean(-1)
    weights = product.softmax(-1) if mode == "softmax" else product / own.mean(-1, keepdim=True)
    weighted = weights.mean(1)[..., None] * features
    scale = features.mean(1).norm(dim=-1) / weighted.mean(1).norm(dim=-1)
    return weights, scale[:, None, None] * weighted


def step_losses(state, clips, patch, noise, ratios, mode, norm_pix_loss, temperatures):
    """All losses of one step under their released names, and the teachers' outputs, which see the first local view."""
    encoders = {net: below(state, f"{net}.backbone.") for net in NETS}
    heads = {net: below(state, f"{net}.head.") for net in NETS}
    losses, outputs, taught = {}, {}, {}
    for m in ("vid", "aud"):
        whole, *local = clips[m]
        trained, num_class = whole.shape[1:], int("cls_token" in encoders[f"{m}_student"])
        latent, _, losses[f"{m}_recon_loss"], _ = autoencode(
            below(state, f"{m}_ae."), encoders[f"{m}_student"], whole, patch[m], noise[m], ratios[m], norm_pix_loss
        )
        seen = [latent] + [encode(encoders[f"{m}_student"], view, patch[m], trained)[0] for view in local]
        outputs[m] = torch.stack([head(heads[f"{m}_student"], tokens[:, num_class:].mean(1)) for tokens in seen])
        tokens, attention = encode(encoders[f"{m}_teacher"], local[0], patch[m], trained)
        attention = attention[:, :, 0, 1:] if num_class else attention.mean(2)
        taught[m] = (attention, tokens[:, num_class:])
    teachers = {}
    for m, other in (("vid", "aud"), ("aud", "vid")):
        refined = refine(taught[m][0], taught[other][0], taught[m][1], mode)[1].mean(1)
        teachers[m] = head(heads[f"{m}_teacher"], refined).detach()
    for name, source, other in (("vt2as", "vid", "aud"), ("at2vs", "aud", "vid")):
        center = state[f"{name}_ce_loss.center"]
        losses[f"{name}_kd_loss"] = distill(teachers[source][None], center, outputs[other], temperatures[source], 0.1)
    losses["as2vs_align_loss"] = mmd(outputs["vid"].flatten(0, 1), outputs["aud"].flatten(0, 1))
    losses["vt2at_align_loss"] = mmd(teachers["vid"], teachers["aud"])
    losses["recon_loss"] = (losses["vid_recon_loss"] + losses["aud_recon_loss"]) / 2
    losses["cmkd_loss"] = (losses["vt2as_kd_loss"] + losses["at2vs_kd_loss"]) / 2
    losses["alignment_loss"] = (losses["as2vs_align_loss"] + losses["vt2at_align_loss"]) / 2
    losses["loss"] = (losses["alignment_loss"] + losses["cmkd_loss"] + 5 * losses["recon_loss"]) / 7
    return losses, teachers
