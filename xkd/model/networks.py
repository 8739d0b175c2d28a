"""Students and teachers of both modalities, and how they are built, shared and initialised."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from xkd.model.autoencoder import Decoder
from xkd.model.config import INIT_STD, ModelConfig
from xkd.model.projector import Projector
from xkd.model.tokenizers import Tokenizer
from xkd.model.vit import Encoder, transformer_blocks


class Teacher(nn.Module):
    """Encoder and head that follow a student's, never trained by gradients, and the running mean of their outputs."""

    def __init__(self, encoder: Encoder, head: Projector):
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.register_buffer("center", torch.zeros(len(head.directions)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Teacher":
        """What `.to()` and its like do to every module; but the centre keeps float32, which bfloat16's rounding would hold back."""
        center = self.center
        super()._apply(fn, recurse)
        if self.center.dtype.itemsize < center.dtype.itemsize:
            self.center = center.to(self.center.device)
        return self


class Student(nn.Module):
    """Encoder, head, and the decoder that makes the encoder a masked autoencoder."""

    def __init__(self, encoder: Encoder, head: Projector, decoder: Decoder):
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.decoder = decoder


class Networks(NamedTuple):
    video_student: Student
    audio_student: Student
    video_teacher: Teacher
    audio_teacher: Teacher


def build_networks(config: ModelConfig, video_shape: tuple[int, ...], audio_shape: tuple[int, ...], seed: int) -> Networks:
    """The four networks; teachers start as copies of the students.

    `sharing` student: one set of transformer blocks serves both students; both: the two teachers share theirs as well. Tokenizers,
    norms, heads and decoders stay separate. Build on the CPU: then every rank gets the same weights from the same seed.
    """
    dim = config.encoder_shape.dim
    video_tokenizer = Tokenizer(video_shape, config.video.tubelet, dim, config.cls_token, "global video view")
    audio_tokenizer = Tokenizer(audio_shape, config.audio.patch, dim, config.cls_token, "global audio view")
    video_blocks = transformer_blocks(config.encoder_shape)
    audio_blocks = transformer_blocks(config.encoder_shape) if config.sharing == "none" else video_blocks
    video, audio = _student(config, video_tokenizer, video_blocks), _student(config, audio_tokenizer, audio_blocks)
    initialise(nn.ModuleList([video, audio]), seed, config.position_std)
    teachers = (Teacher(video.encoder, video.head), Teacher(audio.encoder, audio.head))
    # Copied together, what the two have in common stays in common.
    video_teacher, audio_teacher = copy.deepcopy(teachers) if config.sharing == "both" else map(copy.deepcopy, teachers)
    return Networks(video, audio, video_teacher.requires_grad_(False), audio_teacher.requires_grad_(False))


def _student(config: ModelConfig, tokenizer: Tokenizer, blocks: nn.ModuleList) -> Student:
    dim = config.encoder_shape.dim
    encoder = Encoder(tokenizer, blocks, dim, config.activation_checkpointing)
    decoder = Decoder(tokenizer, dim, config.decoder_shape, config.activation_checkpointing)
    return Student(encoder, Projector(dim, config.projector), decoder)


@torch.no_grad()
def initialise(module: nn.Module, seed: int, position_std: float = INIT_STD) -> None:
    """Initialises every parameter from `seed`, whatever the state of the global generators, which it leaves as they were.

    The paper does not say how. As in MAE: linear layers Xavier-uniform with zero bias; class and mask tokens normal with deviation
    0.02, positions with `position_std`; LayerNorms 1 and 0.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for part in module.modules():
            if isinstance(part, nn.LayerNorm):
                part.reset_parameters()
            elif isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                _zero(part.bias)
            elif isinstance(part, Projector):
                nn.init.xavier_uniform_(part.directions)
            elif isinstance(part, Tokenizer | Decoder):
                for name, parameter in part.named_parameters(recurse=False):
                    nn.init.trunc_normal_(parameter, std=INIT_STD)
                    if name == "positions":
                        parameter.mul_(position_std / INIT_STD)


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)
