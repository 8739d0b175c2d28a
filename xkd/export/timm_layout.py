"""Encoders as timm's VisionTransformer, which holds them whole: tokenizer, positions, blocks, final norm.

A spectrogram is an image of one channel. A video is taken for one too: the frames of a tubelet are channels, and the rows of the
tubelets that follow each other in time stand below each other, which keeps the order of the tokens.

Shapes: D width, P frames a tubelet, p and q rows and columns of a patch, C channels.
"""

from torch import Tensor

from xkd.model.config import ENCODERS, TransformerConfig
from xkd.model.vit import LAYER_NORM_EPSILON, Encoder
from xkd.release.keys import Tensors


def timm_tensors(encoder: Encoder) -> Tensors:
    """The tensors under the names that timm gives them."""
    tokenizer = encoder.tokenizer
    return {
        **({} if tokenizer.cls_token is None else {"cls_token": tokenizer.cls_token}),
        "pos_embed": tokenizer.positions,
        "patch_embed.proj.weight": _kernel(tokenizer.projection.weight, tokenizer.patch, tokenizer.channels),
        "patch_embed.proj.bias": tokenizer.projection.bias,
        **{f"blocks.{name}": tensor for name, tensor in encoder.blocks.state_dict().items()},
        **{f"norm.{name}": tensor for name, tensor in encoder.norm.state_dict().items()},
    }


def timm_name(encoder: Encoder) -> str:
    """The model of timm whose named size is nearest; `timm_arguments` sets all that may differ."""
    block = encoder.blocks[0]
    shape = TransformerConfig(dim=encoder.norm.weight.numel(), depth=len(encoder.blocks), heads=block.attn.num_heads)
    return f"vit_{next((size for size, row in ENCODERS.items() if row == shape), 'base')}_patch16_224"


def timm_arguments(encoder: Encoder) -> dict:
    """What `timm.create_model` is told beside the norm of our epsilon; then the model's output is the feature."""
    tokenizer = encoder.tokenizer
    (time, rows, columns), (frames, height, width) = tokenizer.grid, tokenizer.patch
    return {
        "img_size": (time * rows * height, columns * width),
        "patch_size": (height, width),
        "in_chans": tokenizer.channels * frames,
        "embed_dim": encoder.norm.weight.numel(),
        "depth": len(encoder.blocks),
        "num_heads": encoder.blocks[0].attn.num_heads,
        "class_token": bool(tokenizer.num_class),
        "qkv_bias": False,
        "global_pool": "avg",
        "fc_norm": False,
        "num_classes": 0,
    }


def timm_snippet(encoder: Encoder, file: str) -> str:
    """Python that loads a file and takes a view [B, C, (T,) H, W] to features [B, D]."""
    frames, arguments = encoder.tokenizer.patch[0], timm_arguments(encoder)
    image = "view"
    if encoder.tokenizer.modality == "video":
        image = f"view.unflatten(2, (-1, {frames})).transpose(2, 3).flatten(1, 2).flatten(2, 3)"
    told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return "\n".join(
        [
            "from functools import partial",
            "import timm, torch",
            "from safetensors.torch import load_file",
            "",
            f"arguments = dict({told})",
            f"norm = partial(torch.nn.LayerNorm, eps={LAYER_NORM_EPSILON})",
            f'model = timm.create_model("{timm_name(encoder)}", norm_layer=norm, **arguments).eval()',
            f'model.load_state_dict(load_file("{file}"))',
            f"features = model({image})",
        ]
    )


def _kernel(weight: Tensor, patch: tuple[int, int, int], channels: int) -> Tensor:
    """The projection of a token's values (P p q C) as a convolution's kernel [D, C * P, p, q]."""
    return weight.unflatten(1, (*patch, channels)).permute(0, 4, 1, 2, 3).flatten(1, 2)
