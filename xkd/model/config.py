"""Configuration of the network, and the table of its named sizes."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from xkd.config import Settings

Modality = Literal["video", "audio"]

INIT_STD = 0.02  # of class and mask tokens


class TransformerConfig(Settings):
    """The shape of one transformer."""

    dim: int = Field(gt=0, description="width of a token")
    depth: int = Field(gt=0, description="number of blocks")
    heads: int = Field(gt=0, description="attention heads a block; divides `dim`")

    @model_validator(mode="after")
    def _check(self):
        if self.dim % self.heads:
            raise ValueError(f"heads {self.heads} does not divide dim {self.dim}: choose another number of heads")
        return self


def _row(dim: int, depth: int, heads: int) -> TransformerConfig:
    return TransformerConfig(dim=dim, depth=depth, heads=heads)


ENCODERS = {"tiny": _row(192, 12, 3), "small": _row(384, 12, 6), "base": _row(768, 12, 12), "large": _row(1024, 24, 16)}
DECODERS = {"tiny": _row(96, 4, 3), "small": _row(192, 4, 6), "base": _row(384, 4, 12), "large": _row(512, 8, 16)}


class VideoConfig(Settings):
    """How video becomes tokens."""

    tubelet: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((4, 16, 16), description="frames, rows, columns of one token")
    mask_ratio: float = Field(0.85, gt=0, lt=1, description="share of the tokens that is masked")


class AudioConfig(Settings):
    """How a spectrogram becomes tokens."""

    patch: tuple[PositiveInt, PositiveInt] = Field((4, 16), description="mel bands, time steps of one token")
    mask_ratio: float = Field(0.80, gt=0, lt=1, description="share of the tokens that is masked")


class ProjectorConfig(Settings):
    """The head whose outputs are distilled and aligned."""

    hidden_dim: int = Field(2048, gt=0, description="width of the hidden layers")
    num_layers: int = Field(3, ge=2, description="linear layers up to the normalised bottleneck")
    bottleneck_dim: int = Field(256, gt=0, description="width of the l2-normalised bottleneck")
    out_dim: int = Field(8192, gt=1, description="number of outputs (prototypes)")
    shared_norm: bool = Field(True, description="one LayerNorm for all hidden layers, as released, or one each")


class ModelConfig(Settings):
    """The network; the defaults are the method's."""

    size: Literal["tiny", "small", "base", "large"] | None = Field(None, description="encoder and decoder by name; none: base")
    encoder: TransformerConfig | None = Field(None, description="the encoders' shape, instead of the size's")
    decoder: TransformerConfig | None = Field(None, description="the decoders' shape, instead of the size's")
    sharing: Literal["none", "student", "both"] = Field("none", description="whose transformer blocks serve both modalities")
    shared_ema: Literal["once", "release"] = Field("once", description="updates of shared teacher blocks: video's, or both in turn")
    teacher_view: Literal["global", "local"] = Field("global", description="what teachers see: the global or the first local view")
    refinement: Literal["mean", "softmax", "none"] = Field("mean", description="how the teachers' features weigh their tokens")
    cls_token: bool = Field(True, description="a class token before the others")
    position_std: float = Field(INIT_STD, gt=0, description="deviation that learned positions begin with (MAE's fixed ones: .7)")
    activation_checkpointing: bool = Field(False, description="compute activations twice, not keep them: less memory")
    video: VideoConfig = VideoConfig()
    audio: AudioConfig = AudioConfig()
    projector: ProjectorConfig = ProjectorConfig()

    @model_validator(mode="after")
    def _check(self):
        if self.size and self.encoder and self.decoder:
            raise ValueError(f"size {self.size!r} has no effect beside an explicit encoder and decoder: remove it, or one of them")
        if self.shared_ema == "release" and self.sharing != "both":
            raise ValueError(
                f"shared_ema: 'release' has no effect with sharing {self.sharing!r}, where teachers share no blocks: "
                "remove it, or set sharing to both"
            )
        return self

    @property
    def encoder_shape(self) -> TransformerConfig:
        return self.encoder or ENCODERS[self.size or "base"]

    @property
    def decoder_shape(self) -> TransformerConfig:
        return self.decoder or DECODERS[self.size or "base"]
