"""Loads an exported folder: frozen encoders, and what makes their views of a file, frames or sound."""

import hashlib
from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path

from torch import Tensor, nn

from xkd.encoder.description import Description, read_description
from xkd.encoder.preprocess import audio_views, clip_starts, video_views
from xkd.model.config import Modality
from xkd.model.vit import Encoder
from xkd.release.files import load_encoder as load_backbone


class FeatureEncoder(nn.Module):
    """The encoders of an exported folder, in evaluation mode: `encoder(encoder.preprocess("clip.mp4"))`.

    `encoder.encoders.video(view)` are the tokens [B, X+N, D] behind the features, class token first.
    """

    def __init__(self, encoders: Mapping[Modality, Encoder], description: Description):
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.description = description
        self.eval()

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.encoders)

    def forward(self, views: Mapping[Modality, Tensor]) -> dict[Modality, Tensor]:
        """Features [B, D] of views, video [B, 3, T, H, W] or audio [B, 1, mel bands, steps]: the mean of the patch tokens."""
        self._check(views)
        return {modality: self.encoders[modality].features(view) for modality, view in views.items()}

    def preprocess(
        self,
        path: str | Path | None = None,
        *,
        frames: Tensor | None = None,
        fps: float | None = None,
        waveform: Tensor | None = None,
        sample_rate: int | None = None,
        streams: Collection[Modality] | None = None,
        clips: int = 1,
    ) -> dict[Modality, Tensor]:
        """The views [clips, ...] of a media file, or of frames (uint8 [T, H, W, 3], RGB) and a mono waveform [samples].

        They are the middle clip, or several spread evenly, as long as in training. `streams` are those to read of the file (none:
        all encoders'). A waveform is float in [-1, 1] or int16. Raises ValueError for a file that cannot be read or lacks a stream.
        """
        data, stored = self.description.data, self.description.stored
        if (path is None) == (frames is None and waveform is None):
            raise ValueError(
                "preprocess: give a path, or frames with fps, or a waveform with sample_rate, or the last two together"
            )
        if path is not None:
            from xkd.encoder.media import read_media  # PyAV, which frames and waveforms do without

            found, fps = read_media(Path(path), streams or self.modalities, stored, data.audio.sample_rate), stored.fps
        else:
            given = {"video": frames, "audio": waveform}
            found = {modality: tensor for modality, tensor in given.items() if tensor is not None}
            _check_clip(found, fps, sample_rate, data.audio.sample_rate)
        self._check(found)
        rates = {"video": Fraction(fps or 1).limit_denominator(1001), "audio": Fraction(data.audio.sample_rate)}
        starts = clip_starts([len(tensor) / rates[modality] for modality, tensor in found.items()], clips, data)
        views = {}
        if "video" in found:
            views["video"] = video_views(found["video"], rates["video"], starts, data)
        if "audio" in found:
            views["audio"] = audio_views(found["audio"], starts, data)
        return views

    def _check(self, given: Collection[str]) -> None:
        if missing := [modality for modality in given if modality not in self.encoders]:
            raise ValueError(f"{missing[0]}: this export holds encoders of {', '.join(self.modalities)} only: leave it out")


def load_encoder(folder: str | Path) -> FeatureEncoder:
    """The encoders that `xkd export` wrote to a folder, on the CPU, in float32.

    No code in the folder is run. Raises ValueError where it is no such folder, is damaged, or is for timm.
    """
    folder = Path(folder)
    description = read_description(folder)
    return FeatureEncoder(load_encoders(folder, description, description.modalities), description)


def load_encoders(folder: Path, description: Description, modalities: Collection[Modality]) -> dict[Modality, Encoder]:
    """Those of some modalities, which the folder must have; raises ValueError as `load_encoder`."""
    if description.layout == "timm":
        raise ValueError(
            f"{folder}: was exported for timm, whose models take it (its README.md says how); to load it here, export again with"
            " --format safetensors"
        )
    encoders = {}
    for modality in modalities:
        entry = description.encoders[modality]
        path = folder / entry.file
        if not path.is_file() or file_sha256(path) != entry.sha256:
            raise ValueError(f"{path}: is missing or is not the file that was exported: copy the folder again")
        encoders[modality] = load_backbone(path, shape=entry.shape, patch=entry.patch, heads=entry.heads)
    return encoders


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        found = hashlib.sha256()
        while part := file.read(2**24):
            found.update(part)
    return found.hexdigest()


def _check_clip(found: Mapping[Modality, Tensor], fps: float | None, sample_rate: int | None, wanted_rate: int) -> None:
    """ValueError unless frames and waveform are of the form that `preprocess` asks for."""
    if "video" in found:
        frames = found["video"]
        if frames.ndim != 4 or frames.shape[3] != 3 or str(frames.dtype) != "torch.uint8":
            raise ValueError(f"frames: {frames.dtype} of shape {tuple(frames.shape)} is not uint8 RGB [T, H, W, 3]")
        if not fps or fps <= 0:
            raise ValueError(f"fps: {fps} is not the number of frames a second: set it")
    if "audio" in found:
        waveform = found["audio"]
        if waveform.ndim != 1:
            raise ValueError(f"waveform: the shape {tuple(waveform.shape)} is not [samples]: mix the channels, waveform.mean(0)")
        if sample_rate != wanted_rate:
            raise ValueError(
                f"sample_rate: {sample_rate} is not the {wanted_rate} samples a second that this encoder hears: resample it, as"
                f" torchaudio.functional.resample(waveform, {sample_rate}, {wanted_rate}) does, and say sample_rate={wanted_rate}"
            )
