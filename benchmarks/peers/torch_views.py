"""The views of a clip as torchvision's and torchaudio's transforms make them, with the settings of the data path."""

from functools import partial

import torch
import torch.nn.functional as F
from torchaudio.transforms import MelSpectrogram
from torchvision.transforms import v2

from xkd.benchmarks.peers.work import Views, recolours
from xkd.encoder.preprocess import mel_spectrogram
from xkd.pipelines.config import AudioConfig, DataConfig, VideoConfig, VideoView

LOG_FLOOR = 1.19e-7
BLUR_KERNEL_SHARE = 0.1  # of the view's side, the usual choice


class TorchViews:
    """Maps the frames of a clip [T, 3, H, W] uint8 and its sound [samples] int16 to its views; every call draws anew."""

    def __init__(self, config: DataConfig):
        self._config = config
        self._global = video_transform(config.video.global_view, config.video)
        self._local = video_transform(config.video.local_view, config.video)
        self.sound = SoundViews(config)

    def __call__(self, frames_TCHW: torch.Tensor, sound: torch.Tensor) -> Views:
        views = {"video_global": self._global(frames_TCHW).transpose(0, 1), **self.sound(sound)}
        local = self._config.video.local_view
        if local.count:
            starts = torch.randint(self._config.num_frames - local.frames + 1, (local.count,)).tolist()
            cut = [self._local(frames_TCHW[start : start + local.frames]).transpose(0, 1) for start in starts]
            views["video_local"] = torch.stack(cut)
        return views


def video_transform(view: VideoView, video: VideoConfig) -> v2.Compose:
    """The random transform of one view, of which each draw holds for all frames.

    In the cheapest of the usual orders: crop and resize bytes, channels last as decoders give them; then colours of floats, planar.
    """
    kernel = int(BLUR_KERNEL_SHARE * view.size) // 2 * 2 + 1
    steps = {
        v2.RandomResizedCrop(view.size, view.scale, view.ratio, antialias=True): True,
        v2.RandomHorizontalFlip(view.flip): view.flip,
        v2.Lambda(torch.Tensor.contiguous): True,
        v2.ToDtype(torch.float32, scale=True): True,
        v2.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue): recolours(view),
        v2.RandomGrayscale(view.gray): view.gray,
        v2.RandomApply([v2.GaussianBlur(kernel, view.blur_sigma)], view.blur): view.blur,
        v2.Normalize(video.mean, video.std): True,
    }
    return v2.Compose([step for step, wanted in steps.items() if wanted])


class SoundViews:
    """Maps the sound of a clip [samples] int16 to its log-mel views; every call draws anew."""

    def __init__(self, config: DataConfig):
        self._config = config
        self._log_mel = partial(log_mel, mel_spectrogram(config.audio), config.audio)

    def __call__(self, sound: torch.Tensor) -> Views:
        audio, length = self._config.audio, self._config.local_samples
        waveform = sound.float() / 32768
        views = {"audio_global": self._log_mel(loudness(waveform, audio.global_view.volume))[None]}
        if audio.local_view.count:
            starts = torch.randint((len(waveform) - length) // 100 + 1, (audio.local_view.count,)).tolist()
            stretches = [waveform[100 * start : 100 * start + length] for start in starts]
            views["audio_local"] = torch.stack([self._local(stretch) for stretch in stretches])
        return views

    def _local(self, stretch: torch.Tensor) -> torch.Tensor:
        view = self._config.audio.local_view
        spectrogram = self._log_mel(loudness(stretch, view.volume))[None]
        return resize_crop(spectrogram) if view.resize_crop else spectrogram


def log_mel(mel: MelSpectrogram, audio: AudioConfig, waveform: torch.Tensor) -> torch.Tensor:
    return (torch.log(mel(waveform) + LOG_FLOOR) - audio.mean) / audio.std


def loudness(waveform: torch.Tensor, volume: float) -> torch.Tensor:
    return waveform * float(torch.empty(()).uniform_(1 - volume, 1 + volume))


def resize_crop(spectrogram_1FS: torch.Tensor) -> torch.Tensor:
    """A random box of the zero canvas, half as wide again, around a spectrogram, resized to its size."""
    bands, steps = spectrogram_1FS.shape[1:]
    margin = (int(1.5 * steps) - steps) // 2
    canvas = F.pad(spectrogram_1FS, (margin, int(1.5 * steps) - steps - margin))
    shares = torch.empty(2).uniform_(0.6, 1.5).tolist()
    height, width = min(int(shares[0] * bands), bands), min(int(shares[1] * steps), canvas.shape[2])
    top, left = int(torch.randint(bands - height + 1, ())), int(torch.randint(canvas.shape[2] - width + 1, ()))
    box = canvas[None, :, top : top + height, left : left + width]
    return F.interpolate(box, size=(bands, steps), mode="bicubic", align_corners=True)[0]
