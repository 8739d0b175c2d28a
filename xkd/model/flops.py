"""What a network costs: parameters and floating-point operations, from its configuration alone.

Counted are the matrix products, two operations a multiply-accumulate: linear layers, attention's scores and its weighted sums.
Not counted: norms, softmax, GELU, the interpolation of positions, and the losses, whose only products are MMD's (0.004 % of a step
of the base network with groups of 32). That is the convention of torch.utils.flop_counter, and of the method's figures.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from xkd.losses import LossWeights
from xkd.model.config import ModelConfig, ProjectorConfig, TransformerConfig
from xkd.model.geometry import Shape, token_grid, visible_tokens

# The gradient of a product takes two products of its size: one for each factor.
TRAINED, FORWARD_ONLY = 3, 1


@dataclass(frozen=True)
class Part:
    """One network's work on one sample; parameters that several parts use are counted at the first."""

    parameters: int
    trainable_parameters: int
    forward_flops: int
    passes: int  # TRAINED, or FORWARD_ONLY without a backward

    @property
    def step_flops(self) -> int:
        """Forward and backward. 3 times the forward, though clips need no gradient: 0.15 % too much for the base."""
        return self.passes * self.forward_flops


@dataclass(frozen=True)
class Cost:
    """What a network holds, and what a training step computes for one sample.

    Parts: `video` and `audio` times `masked encoder`, `decoder`, `local views`, `head` (the students') and `teacher` (with its
    head), so `parts["video decoder"]`.
    """

    parts: dict[str, Part]

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts.values())

    @property
    def trainable_parameters(self) -> int:
        return sum(part.trainable_parameters for part in self.parts.values())

    @property
    def forward_flops(self) -> int:
        return sum(part.forward_flops for part in self.parts.values())

    @property
    def step_flops(self) -> int:
        """Forward and backward of a sample: what a sample of throughput is worth in a model's FLOP utilisation."""
        return sum(part.step_flops for part in self.parts.values())


@dataclass(frozen=True)
class _Tokens:
    """Tokens of one modality; `local` of each of `num_local` local views."""

    values: int  # a token's
    whole: int
    visible: int
    local: int
    num_local: int


def cost(
    model: ModelConfig,
    weights: LossWeights,
    *,
    video_shape: Shape,
    audio_shape: Shape,
    local_video_shape: Shape | None,
    local_audio_shape: Shape | None,
    num_local_videos: int = 1,
    num_local_audios: int = 1,
) -> Cost:
    """The cost of the network `XKD(model, ...)` of these views; a term of weight 0 computes nothing.

    Shapes are those of one view, without the batch, None where there are no local ones. Raises ValueError where a view cannot be
    cut into tokens.
    """
    video = _tokens("video", model.video.tubelet, model.video.mask_ratio, video_shape, local_video_shape, num_local_videos)
    audio = _tokens("audio", model.audio.patch, model.audio.mask_ratio, audio_shape, local_audio_shape, num_local_audios)
    # Shared blocks are counted with video.
    parts = [
        *_parts(model, weights, "video", video, student_blocks=True, teacher_blocks=True),
        *_parts(model, weights, "audio", audio, student_blocks=model.sharing == "none", teacher_blocks=model.sharing != "both"),
    ]
    return Cost(dict(parts))


def _tokens(modality: str, patch: Shape, mask_ratio: float, whole: Shape, local: Shape | None, num_local: int) -> _Tokens:
    num_tokens = math.prod(token_grid(whole, patch, f"global {modality} view"))
    return _Tokens(
        values=math.prod(patch) * whole[0],
        whole=num_tokens,
        visible=visible_tokens(num_tokens, mask_ratio),
        local=math.prod(token_grid(local, patch, f"local {modality} view")) if local else 0,
        num_local=num_local if local else 0,
    )


def _parts(
    model: ModelConfig, weights: LossWeights, modality: str, tokens: _Tokens, *, student_blocks: bool, teacher_blocks: bool
) -> Iterator[tuple[str, Part]]:
    """The parts of one modality by name; `student_blocks` and `teacher_blocks` say whose blocks to count as parameters here."""
    dim, head = model.encoder_shape.dim, model.projector
    distilled = bool(weights.cmkd or weights.align)
    seen = tokens.local if model.teacher_view == "local" else tokens.whole
    student, decoder = _encoder_parameters(model, tokens, student_blocks), _decoder_parameters(model, tokens)
    head_macs, head_parameters = _head_macs(dim, head), _head_parameters(dim, head)
    head_trainable = head_parameters - head.out_dim  # its gains are fixed
    teacher = _encoder_parameters(model, tokens, teacher_blocks) + head_parameters
    teacher_macs = _encoder_macs(model, tokens, seen) + _attention_macs(model, seen) + head_macs
    rows = (
        ("masked encoder", student, student, _encoder_macs(model, tokens, tokens.visible), True, TRAINED),
        ("decoder", decoder, decoder, _decoder_macs(model, tokens), weights.recon, TRAINED),
        ("local views", 0, 0, tokens.num_local * _encoder_macs(model, tokens, tokens.local), distilled, TRAINED),
        ("head", head_parameters, head_trainable, (1 + tokens.num_local) * head_macs, distilled, TRAINED),
        ("teacher", teacher, 0, teacher_macs, distilled, FORWARD_ONLY),
    )
    for name, parameters, trainable, macs, used, passes in rows:
        yield f"{modality} {name}", Part(parameters, trainable, 2 * macs if used else 0, passes)


def _blocks_macs(shape: TransformerConfig, num_tokens: int) -> int:
    """Queries, keys, values 3, projection 1, the MLP's layers 4 each; scores and weighted sums over all pairs of tokens."""
    return shape.depth * (12 * shape.dim**2 * num_tokens + 2 * num_tokens**2 * shape.dim)


def _blocks_parameters(shape: TransformerConfig) -> int:
    """The products' matrices; biases of the projection 1 and the MLP 4 + 1; two norms of 2 each."""
    return shape.depth * (12 * shape.dim**2 + 10 * shape.dim)


def _encoder_macs(model: ModelConfig, tokens: _Tokens, num_tokens: int) -> int:
    shape = model.encoder_shape
    return num_tokens * tokens.values * shape.dim + _blocks_macs(shape, num_tokens + model.cls_token)


def _encoder_parameters(model: ModelConfig, tokens: _Tokens, with_blocks: bool) -> int:
    """The projection with its bias, positions and class token with its own position, the last norm, and the blocks."""
    dim = model.encoder_shape.dim
    tokenizer = tokens.values + 1 + tokens.whole + 2 * model.cls_token
    return (tokenizer + 2) * dim + with_blocks * _blocks_parameters(model.encoder_shape)


def _decoder_macs(model: ModelConfig, tokens: _Tokens) -> int:
    """Embedding of the visible tokens, blocks over all, prediction of the masked ones."""
    dim, width = model.encoder_shape.dim, model.decoder_shape.dim
    embedding = (tokens.visible + model.cls_token) * dim * width
    prediction = (tokens.whole - tokens.visible) * width * tokens.values
    return embedding + _blocks_macs(model.decoder_shape, tokens.whole + model.cls_token) + prediction


def _decoder_parameters(model: ModelConfig, tokens: _Tokens) -> int:
    """Embedding and prediction with their biases, the mask token, positions, blocks."""
    dim, width = model.encoder_shape.dim, model.decoder_shape.dim
    linear = (dim + 1) * width + (width + 1) * tokens.values
    return linear + (1 + tokens.whole + model.cls_token) * width + _blocks_parameters(model.decoder_shape)


def _attention_macs(model: ModelConfig, num_tokens: int) -> int:
    """What a teacher computes beside its blocks for the last one's attention: the class token's row, or all rows without one."""
    dim, heads = model.encoder_shape.dim, model.encoder_shape.heads
    if model.cls_token:
        return 2 * dim**2 + heads * (num_tokens + 1) * dim
    return 2 * num_tokens * dim**2 + num_tokens**2 * dim


def _widths(dim: int, head: ProjectorConfig) -> list[int]:
    return [dim, *[head.hidden_dim] * (head.num_layers - 1), head.bottleneck_dim]


def _head_macs(dim: int, head: ProjectorConfig) -> int:
    return sum(a * b for a, b in pairwise([*_widths(dim, head), head.out_dim]))


def _head_parameters(dim: int, head: ProjectorConfig) -> int:
    """Linear layers with their biases, norms, the last layer's directions and gains."""
    norms = 1 if head.shared_norm else head.num_layers - 1
    linear = sum((a + 1) * b for a, b in pairwise(_widths(dim, head)))
    return linear + 2 * norms * head.hidden_dim + (head.bottleneck_dim + 1) * head.out_dim
