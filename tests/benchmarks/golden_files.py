"""Golden files of every kind, made from float64 formulas."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio

from tests.benchmarks import golden_formulas as formulas
from tests.benchmarks.golden_formulas import below

DIM, DECODER_DIM, HIDDEN, BOTTLENECK, OUT = 12, 6, 16, 6, 24
TEMPERATURES, MOMENTA, RATIOS = {"vid": 0.1, "aud": 0.07}, {"vid": 0.9, "aud": 0.8}, {"vid": 0.85, "aud": 0.8}
EMA = {"vid": 0.997, "aud": 0.9}
EMBEDDING = {"vid": "cuboid_embed", "aud": "patch_embed"}


@dataclass(frozen=True)
class Variant:
    cls_token: bool = True
    norm_pix_loss: bool = True
    sharing: str = "student"
    tubelet: tuple[int, ...] = (2, 4, 4)
    patch: tuple[int, ...] = (2, 4)
    video: tuple[int, ...] = (3, 4, 16, 16)
    local_video: tuple[int, ...] = (3, 2, 8, 8)
    audio: tuple[int, ...] = (1, 8, 40)
    local_audio: tuple[int, ...] = (1, 8, 20)
    video_locals: int = 2

    def of(self, modality):
        return (self.video, self.local_video, self.tubelet) if modality == "vid" else (self.audio, self.local_audio, self.patch)


def normal(*shape, seed, scale=1.0):
    """Random values that float16 holds exactly, in float64."""
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).half().double()


def uniform(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(4))


def filled(shapes, seed):
    """A state of such shapes away from any initial value; gains of a head's last layer are 1."""
    state = {key: normal(*shape, seed=seed + i, scale=0.3) for i, (key, shape) in enumerate(shapes.items())}
    state |= {key: (1 + value).half().double() for key, value in state.items() if "norm" in key and key.endswith("weight")}
    return {key: torch.ones_like(value) if key.endswith("weight_g") else value for key, value in state.items()}


def block_shapes(prefix, dim, depth):
    for i in range(depth):
        name = f"{prefix}.{i}"
        yield from ((f"{name}.{n}.{part}", (dim,)) for n in ("norm1", "norm2") for part in ("weight", "bias"))
        yield f"{name}.attn.qkv.weight", (3 * dim, dim)
        for layer, (rows, columns) in {"attn.proj": (dim, dim), "mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}.items():
            yield from ((f"{name}.{layer}.weight", (rows, columns)), (f"{name}.{layer}.bias", (rows,)))


def tokens_and_values(shape, patch):
    tokens = [side // p for side, p in zip(shape[1:], patch, strict=True)]
    return int(np.prod(tokens)), int(np.prod(patch)) * shape[0]


def encoder_shapes(variant, modality):
    shape, _, patch = variant.of(modality)
    num_tokens, values = tokens_and_values(shape, patch)
    proj = f"{EMBEDDING[modality]}.proj"
    return {
        **({"cls_token": (1, 1, DIM)} if variant.cls_token else {}),
        "enc_pos_embed": (1, variant.cls_token + num_tokens, DIM),
        f"{proj}.weight": (DIM, values),
        f"{proj}.bias": (DIM,),
        **dict(block_shapes("encoder.blocks", DIM, 2)),
        "encoder_norm.weight": (DIM,),
        "encoder_norm.bias": (DIM,),
    }


def decoder_shapes(variant, modality):
    shape, _, patch = variant.of(modality)
    num_tokens, values = tokens_and_values(shape, patch)
    return {
        "dec_pos_embed": (1, variant.cls_token + num_tokens, DECODER_DIM),
        "mask_token": (1, 1, DECODER_DIM),
        "mid_proj.weight": (DECODER_DIM, DIM),
        "mid_proj.bias": (DECODER_DIM,),
        **dict(block_shapes("decoder.blocks", DECODER_DIM, 1)),
        "out_proj.weight": (values, DECODER_DIM),
        "out_proj.bias": (values,),
    }


def head_shapes():
    linear = {0: (HIDDEN, DIM), 3: (HIDDEN, HIDDEN), 6: (BOTTLENECK, HIDDEN)}
    layers = {
        f"mlp.{i}.{part}": shape[: 2 if part == "weight" else 1] for i, shape in linear.items() for part in ("weight", "bias")
    }
    norm = {f"mlp.1.{part}": (HIDDEN,) for part in ("weight", "bias")}
    return {**layers, **norm, "last_layer.weight_g": (OUT, 1), "last_layer.weight_v": (OUT, BOTTLENECK)}


def with_second_norm(head_state):
    return {**head_state, **{f"mlp.4.{part}": head_state[f"mlp.1.{part}"] for part in ("weight", "bias")}}


def prefixed(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def half(tensors):
    return {key: value.half() for key, value in tensors.items()}


def single(tensors):
    return {key: value.detach().float() for key, value in tensors.items()}


def leaves(state):
    return {key: value.clone().requires_grad_(not key.endswith(("weight_g", "center"))) for key, value in state.items()}


def encoder_file(variant, modality):
    state = filled(encoder_shapes(variant, modality), seed=10)
    whole, local, patch = variant.of(modality)
    arrays = prefixed("sd/", single(state))
    for view, shape in (("global", whole), ("local", local)):
        clip = normal(2, *shape, seed=5)
        tokens, attention = formulas.encode(state, clip, patch, whole)
        arrays |= {f"x_{view}": clip.half(), **single({f"tok_{view}": tokens, f"attn_{view}": attention})}
    arrays |= single({"pos_local": formulas.positions(state, local, patch, whole)})
    return arrays | ({"patches_local0": formulas.patchify(clip, patch)[:1, :4].float()} if modality == "vid" else {})


def masks_file(variant):
    arrays = {}
    for case, (tokens, ratio) in enumerate([(20, 0.85), (7, 0.5)]):
        x, noise = normal(2, tokens, 3, seed=case), uniform(2, tokens)
        keep, restore, mask = formulas.masks(noise, ratio)
        masked = x.gather(1, keep[..., None].expand(-1, -1, 3))
        case_arrays = {"x": x, "noise": noise, "mask": mask, "x_masked": masked}
        arrays |= prefixed(
            f"{case}/", {**single(case_arrays), "ids_keep": keep, "ids_restore": restore, "ratio": torch.tensor(ratio).double()}
        )
    return arrays


def autoencoder_file(variant, modality):
    encoder, decoder = filled(encoder_shapes(variant, modality), seed=30), filled(decoder_shapes(variant, modality), seed=60)
    state = leaves({**decoder, **prefixed("encoder.", encoder)})
    shape, _, patch = variant.of(modality)
    clip, noise = normal(2, *shape, seed=7), uniform(2, tokens_and_values(shape, patch)[0])
    encoder = below(state, "encoder.")
    latent, pred, loss, (_, restore, mask) = formulas.autoencode(state, encoder, clip, patch, noise, 0.75, variant.norm_pix_loss)
    loss.backward()
    grads = {key: value.grad for key, value in state.items()}
    arrays = {**prefixed("sd/", state), "latent": latent, "loss": loss, "mask": mask, **prefixed("grad/", grads)}
    arrays |= prefixed("gradnorm/", {key: grad.norm() for key, grad in grads.items()})
    return {**single(arrays), "x": clip.half(), "noise": noise, "pred": pred.detach().half(), "ids_restore": restore}


def mmd_file(variant, rounded=False):
    x, y = (normal(rows, 16, seed=rows, scale=0.3).requires_grad_() for rows in (6, 9))
    if rounded:
        x, y = ((value.detach() * 1.0001).requires_grad_() for value in (x, y))
    value = formulas.mmd(x, y)
    value.backward()
    arrays = {"val_f64": value.detach(), "gx_f64": x.grad, "gy_f64": y.grad, "x": x.detach().half(), "y": y.detach().half()}
    return {**arrays, "val_f32": value.detach().float()}


def distillation_file(variant):
    arrays = {}
    for case, setting in enumerate([(4, 24, 3, 2, 0.1, 0.05, 0.8), (5, 8, 1, 1, 0.2, 0.09, 0.9)]):
        batch, dim, student_views, teacher_views, student_temperature, teacher_temperature, momentum = setting
        arrays[f"{case}/params_B_D_sviews_tviews_stemp_ttemp_momentum"] = torch.tensor(setting, dtype=torch.float64)
        center = torch.zeros(1, dim, dtype=torch.float64)
        for step in range(2):
            student = normal(student_views * batch, dim, seed=step).requires_grad_()
            teacher = normal(teacher_views * batch, dim, seed=9 + step)
            views = teacher.view(teacher_views, batch, dim), student.view(student_views, batch, dim)
            loss = formulas.distill(views[0], center, views[1], teacher_temperature, student_temperature)
            loss.backward()
            after = momentum * center + (1 - momentum) * teacher.mean(0, keepdim=True)
            found = {"center_before": center, "loss": loss, "grad_student": student.grad, "center_after": after}
            views = {"student": student.detach().half(), "teacher": teacher.half()}
            arrays |= prefixed(f"{case}/{step}/", {**single(found), **views})
            center = after
    return arrays


def refinement_file(variant):
    own, other = (normal(2, 3, tokens, seed=tokens).softmax(-1) for tokens in (6, 9))
    features = [normal(2, tokens, 5, seed=1 + tokens) for tokens in (6, 9)]
    arrays = {"0/vattn": own, "0/aattn": other, "0/vfeat": features[0], "0/afeat": features[1]}
    for mode in ("mean", "softmax"):
        for name, pair, feature in (("v", (own, other), features[0]), ("a", (other, own), features[1])):
            arrays[f"0/{mode}/c{name}attn"], arrays[f"0/{mode}/{name}feat_aligned"] = formulas.refine(*pair, feature, mode)
    return single(arrays)


def head_file(variant):
    state, x = leaves(filled(head_shapes(), seed=90)), normal(6, DIM, seed=3).requires_grad_()
    y = formulas.head(with_second_norm(state), x)
    (y.square() * torch.linspace(-1, 1, OUT, dtype=torch.float64)).sum().backward()
    grads = {key: value.grad for key, value in state.items() if value.grad is not None}
    return single({**prefixed("sd/", with_second_norm(state)), "x": x, "y": y, "grad_x": x.grad, **prefixed("grad/", grads)})


def audio_file(variant):
    time = torch.arange(64000, dtype=torch.float64) / 16000
    wave = (0.3 * torch.sin(2 * torch.pi * 500 * time * time) + normal(64000, seed=1, scale=0.02)).half()
    mel = torchaudio.transforms.MelSpectrogram(
        16000, 1024, hop_length=143, f_min=0, f_max=8000, n_mels=80, mel_scale="slaney", norm="slaney"
    )
    arrays = {"wav": wave, "rrc_params_i_j_h_w": torch.tensor([[0, 0, 80, 168], [10, 30, 60, 100]])}
    for view, part in (("global", wave), ("local", wave[12000:28000])):
        arrays[f"{view}_reflect_norm"] = ((mel.double()(part.double()) + 1.19e-7).log() + 5.3688107)[None] / 4.410007
    canvas = F.pad(arrays["local_reflect_norm"], (28, 28))
    for k, (i, j, h, w) in enumerate(arrays["rrc_params_i_j_h_w"].tolist()):
        crop = canvas[None, :, i : i + h, j : j + w]
        arrays[f"rrc{k}"] = F.interpolate(crop, (80, 112), mode="bicubic", align_corners=True)[0].float()
    return {key: value.float() if value.dtype == torch.float64 else value for key, value in arrays.items()}


def network_state(variant):
    """Leaves under the key that stores them, and the keys that are other names of them."""
    state, alias = {}, {}
    for index, net in enumerate(formulas.NETS):
        modality, role = net.split("_")
        state |= prefixed(f"{net}.backbone.", filled(encoder_shapes(variant, modality), seed=100 * index))
        state |= prefixed(f"{net}.head.", filled(head_shapes(), seed=100 * index + 50))
        alias |= {f"{net}.head.mlp.4.{part}": f"{net}.head.mlp.1.{part}" for part in ("weight", "bias")}
        if role == "student":
            state |= prefixed(f"{modality}_ae.", filled(decoder_shapes(variant, modality), seed=100 * index + 70))
            alias |= {f"{modality}_ae.encoder.{key}": f"{net}.backbone.{key}" for key in encoder_shapes(variant, modality)}
    roles = {"none": (), "student": ("student",), "both": ("student", "teacher")}[variant.sharing]
    for role in roles:
        alias |= {k: k.replace("aud_", "vid_", 1) for k in state if k.startswith(f"aud_{role}.backbone.encoder.blocks.")}
    alias = {key: alias.get(stored, stored) for key, stored in alias.items()}
    state = {key: value for key, value in state.items() if key not in alias}
    centers = {f"{name}_ce_loss.center": torch.zeros(1, OUT, dtype=torch.float64) for name in ("vt2as", "at2vs")}
    return leaves({**state, **centers}), alias


def network_file(variant):
    counts = {"vid": variant.video_locals, "aud": 1}
    clips = {
        m: [normal(3, *variant.of(m)[0], seed=40), *(normal(3, *variant.of(m)[1], seed=41 + k) for k in range(counts[m]))]
        for m in counts
    }
    patch = {m: variant.of(m)[2] for m in counts}
    noise = {m: uniform(3, tokens_and_values(*variant.of(m)[::2])[0]) for m in counts}
    arrays = {"noise_vid": noise["vid"], "noise_aud": noise["aud"]}
    for m, name in (("vid", "frames"), ("aud", "specs")):
        arrays |= half({f"{name}{k}": clip for k, clip in enumerate(clips[m])})
    for mode in ("softmax", "mean"):
        state, alias = network_state(variant)
        named = {**state, **{key: state[stored] for key, stored in alias.items()}}
        losses, teachers = formulas.step_losses(named, clips, patch, noise, RATIOS, mode, variant.norm_pix_loss, TEMPERATURES)
        losses["loss"].backward()
        grads = {key: value.grad for key, value in state.items() if value.grad is not None}
        found = prefixed("loss/", losses) | prefixed("gradnorm/", {key: grad.norm() for key, grad in grads.items()})
        found |= prefixed("grad/", grads) if mode == "mean" else {}
        centers = {"center_vt2as": ("vid", teachers["vid"]), "center_at2vs": ("aud", teachers["aud"])}
        found |= {name: (1 - MOMENTA[m]) * output.mean(0, keepdim=True) for name, (m, output) in centers.items()}
        arrays |= prefixed(f"{mode}/", single(found))
        arrays |= prefixed("mean64/", {key: value.detach() for key, value in found.items()}) if mode == "mean" else {}
    arrays |= prefixed("sd/", half({key: value.detach() for key, value in state.items()}))
    arrays |= {"sd_alias": np.array([f"{k}={v}" for k, v in alias.items()]), "state_dict_keys": np.array(list(named))}
    return arrays | after_step(named, state, alias)


def after_step(named, state, alias):
    """Clip per student, so that shared blocks are clipped twice, then AdamW's first step and the teachers, all in float64."""
    norms, grads = [], {key: value.grad for key, value in state.items() if value.grad is not None}
    for m in ("vid_student.", "aud_student."):
        own = dict.fromkeys(alias.get(key, key) for key in named if key.startswith(m))
        for key in (key for key in own if key in grads):
            norms.append(grads[key].norm())
            grads[key] = grads[key] * (0.3 / (norms[-1] + 1e-6)).clamp(max=1)
    after = {key: value.detach().clone() for key, value in state.items()}
    for key, grad in ((key, grad) for key, grad in grads.items() if "_teacher." not in key):
        decay = 0.3 if grad.ndim >= 2 and not key.endswith("bias") else 0.0
        after[key] = after[key] * (1 - 1e-3 * decay) - 1e-3 * grad / (grad.abs() + 1e-8)
    for m, momentum in EMA.items():
        own = dict.fromkeys(alias.get(key, key) for key in named if key.startswith(f"{m}_teacher."))
        for key in own:
            student = key.replace("teacher", "student")
            student = f"{m}_student.{key.split('.', 1)[1]}" if student not in alias else student
            after[key] = momentum * after[key] + (1 - momentum) * after[alias.get(student, student)]
    large = [key for key in after if key.endswith(("fc1.weight", "qkv.weight"))]
    arrays = {f"after_step_sum/{key}": after[key].sum() for key in large}
    arrays |= {f"after_step_sq/{key}": after[key].square().sum() for key in large}
    arrays |= {f"after_step/{key}": value.float() for key, value in after.items() if key not in large and "center" not in key}
    return {**arrays, "clip_norms": torch.stack(norms)}


FILES = {
    "video_encoder": lambda variant: encoder_file(variant, "vid"),
    "audio_encoder": lambda variant: encoder_file(variant, "aud"),
    "masks": masks_file,
    "video_autoencoder": lambda variant: autoencoder_file(variant, "vid"),
    "audio_autoencoder": lambda variant: autoencoder_file(variant, "aud"),
    "mmd": mmd_file,
    "distillation": distillation_file,
    "refinement": refinement_file,
    "head": head_file,
    "network": network_file,
    "audio": audio_file,
}


def make(name, variant=Variant()):
    """The arrays of a file of this kind."""
    made = FILES[name](variant)
    return {key: np.asarray(value.detach()) if isinstance(value, torch.Tensor) else value for key, value in made.items()}
