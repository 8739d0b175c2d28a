"""The smallest XKD that has every part, and batches for it."""

import torch

from xkd.losses import ALONE, LossConfig
from xkd.model.config import ModelConfig
from xkd.model.xkd import XKD

VIDEO, LOCAL_VIDEO = (3, 4, 8, 8), (3, 2, 8, 4)  # 8 and 2 tokens
AUDIO, LOCAL_AUDIO = (1, 8, 12), (1, 8, 8)  # 6 and 4 tokens
SHAPES = {"video_shape": VIDEO, "audio_shape": AUDIO, "local_video_shape": LOCAL_VIDEO, "local_audio_shape": LOCAL_AUDIO}
ALL_TERMS = {"recon": 5.0, "cmkd": 1.0, "align": 1.0}


def tiny_model(**changes) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "encoder": {"dim": 12, "depth": 2, "heads": 3},
            "decoder": {"dim": 8, "depth": 1, "heads": 2},
            "video": {"tubelet": (2, 4, 4), "mask_ratio": 0.75},
            "audio": {"patch": (4, 4), "mask_ratio": 0.5},
            "projector": {"hidden_dim": 16, "bottleneck_dim": 6, "out_dim": 24},
            **changes,
        }
    )


def tiny_xkd(*, weights=ALL_TERMS, loss=None, seed=0, ranks=ALONE, dtype=torch.float32, shapes=SHAPES, **changes) -> XKD:
    loss = LossConfig.model_validate({"weights": weights, **(loss or {})})
    return XKD(tiny_model(**changes), loss, **shapes, seed=seed, ranks=ranks).to(dtype)


def tiny_batch(size=4, *, local_videos=1, local_audios=1, dtype=torch.float32, seed=0):
    """Global video, local videos, global audio, local audios: the arguments of `XKD.forward`."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return (
        draw(size, *VIDEO),
        draw(size, local_videos, *LOCAL_VIDEO) if local_videos else None,
        draw(size, *AUDIO),
        draw(size, local_audios, *LOCAL_AUDIO) if local_audios else None,
    )


def shake(module: torch.nn.Module, scale=0.3, seed=1) -> None:
    """Moves every parameter off its initial value, so that zeros and ones hide nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn(parameter.shape, generator=generator)
