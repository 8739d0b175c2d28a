"""Views of normal noise in the shapes of a configuration: what is measured where neither pictures nor sounds matter."""

import torch
from torch import Tensor

from xkd.pipelines.loader import Batch
from xkd.train.config import PretrainConfig


def noise_views(config: PretrainConfig, clips: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The views of so many clips by their names in a Batch. Raises ValueError where a modality has no local view."""
    data, shapes = config.data, config.data.view_shapes
    if None in shapes.values():
        raise ValueError("data: a modality has no local view: set local_view.count of data.video and data.audio to 1 or more")
    leading = {
        "video_global": ("video_shape", (clips,)),
        "video_local": ("local_video_shape", (clips, data.video.local_view.count)),
        "audio_global": ("audio_shape", (clips,)),
        "audio_local": ("local_audio_shape", (clips, data.audio.local_view.count)),
    }
    return {name: torch.randn(*sizes, *shapes[shape], generator=generator) for name, (shape, sizes) in leading.items()}


def noise_batch(config: PretrainConfig, clips: int, seed: int, device: str = "cpu") -> Batch:
    """A rank's batch of so many clips without labels, its views on the device."""
    none = torch.zeros(clips, dtype=torch.bool)
    views = noise_views(config, clips, torch.Generator().manual_seed(seed))
    return Batch(
        **{name: view.to(device) for name, view in views.items()},
        labels=torch.full((clips,), -1),
        targets=torch.zeros(clips, 0),
        sample_ids=torch.arange(clips),
        keys=[f"noise {number}" for number in range(clips)],
        substituted=none,
        valid=~none,
    )
