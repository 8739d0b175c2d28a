"""What the sizes of the views mean in tokens, checked before anything is built."""

import math

from xkd.model.config import ModelConfig

Shape = tuple[int, ...]
Grid = tuple[int, int, int]


def token_grid(shape: Shape, patch: Shape, view: str) -> Grid:
    """Tokens along (time, rows, columns) of a view (C, [T,] H, W); a spectrogram is one frame.

    Raises ValueError where the patch does not fit the view.
    """
    sides = shape[1:]
    if any(side % p for side, p in zip(sides, patch, strict=True)):
        raise ValueError(f"{view}: {by(sides)} cannot be cut into tokens of {by(patch)}: every side must be a multiple")
    return as_grid(tuple(side // p for side, p in zip(sides, patch, strict=True)))


def as_grid(sides: Shape) -> Grid:
    """(rows, columns) or (time, rows, columns) as the latter."""
    return (1,) * (3 - len(sides)) + sides


def by(sides: Shape) -> str:
    """Sides in a message: 4x16x16."""
    return "x".join(map(str, sides))


def visible_tokens(num_tokens: int, mask_ratio: float) -> int:
    """How many tokens of a clip masking keeps."""
    return round(num_tokens * (1 - mask_ratio))


def check_views(
    model: ModelConfig, video_shape: Shape, audio_shape: Shape, local_video_shape: Shape | None, local_audio_shape: Shape | None
) -> None:
    """Raises ValueError where the network cannot work on views of these shapes; a local shape is None where there are none."""
    for modality, config, patch, whole, local in (
        ("video", model.video, model.video.tubelet, video_shape, local_video_shape),
        ("audio", model.audio, model.audio.patch, audio_shape, local_audio_shape),
    ):
        num_tokens = math.prod(token_grid(whole, patch, f"global {modality} view"))
        if not 0 < visible_tokens(num_tokens, config.mask_ratio) < num_tokens:
            raise ValueError(
                f"model.{modality}.mask_ratio: {config.mask_ratio:g} of {num_tokens} tokens leaves none visible, or none masked: "
                "choose another ratio or smaller tokens"
            )
        if local is not None:
            token_grid(local, patch, f"local {modality} view")
        elif model.teacher_view == "local":
            raise ValueError(f"model.teacher_view: 'local' needs a local {modality} view: add one, or set teacher_view to global")
    if local_audio_shape is not None and local_audio_shape[1] != audio_shape[1]:
        raise ValueError(
            f"local audio view: {local_audio_shape[1]} mel bands, but the global one has {audio_shape[1]}: they must be equal"
        )
