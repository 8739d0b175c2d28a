"""Settings of the data path: clips, views, spectrograms; defaults are the method's, and every tensor shape follows from them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from xkd.pipelines.cores import own_cores

LOG_FLOOR = 1.19e-7  # added to mel power before the logarithm, as the method does


class Settings(BaseModel):
    """Base of the data path's configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"[{pair[0]}, {pair[1]}] is not in order: write the smaller number first")
    return pair


# A shard folder: a path, or a URL (which a Path would mangle).
Location = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]
Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
FractionRange = Annotated[tuple[Fraction, Fraction], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]


class RandAugment(Settings):
    """RandAugment: operations applied one after another to a view, each drawn from the same list (augment_policy.py)."""

    ops: int = Field(0, ge=0, description="operations a view; 0: none")
    probability: Probability = Field(0.5, description="probability that an operation is applied")
    magnitude: float = Field(7.0, ge=0, le=10, description="strength of the operations, of 10")
    magnitude_std: float = Field(0.5, ge=0, description="standard deviation of the strength, drawn for each operation")


class VideoView(Settings):
    """How one view is cut from the decoded frames and coloured; drawn once a view, the same for all its frames."""

    size: int = Field(112, gt=0, description="side of the square view, pixels")
    scale: FractionRange = Field((0.2, 1.0), description="share of the frame's area that a crop covers")
    ratio: PositiveRange = Field((3 / 4, 4 / 3), description="width / height of a crop before it is resized")
    flip: Probability = Field(0.5, description="probability of a mirror image")
    brightness: Strength = Field(0.4, description="brightness is scaled by a factor in 1 +- this")
    contrast: Strength = Field(0.4, description="contrast about mid-grey is scaled by a factor in 1 +- this")
    saturation: Strength = Field(0.4, description="saturation is scaled by a factor in 1 +- this")
    hue: float = Field(0.2, ge=0, le=0.5, description="hue is turned by +- this share of a full turn")
    gray: Probability = Field(0.0, description="probability of a grey view")
    blur: Probability = Field(0.0, description="probability of a gaussian blur")
    blur_sigma: PositiveRange = Field((0.1, 2.0), description="standard deviation of the blur, pixels of the view")
    rand_augment: RandAugment = RandAugment()
    erase: Probability = Field(0.0, description="probability that a rectangle is replaced by gaussian noise")
    erase_area: FractionRange = Field((0.02, 0.33), description="share of the view's area that it covers")


class LocalVideoView(VideoView):
    """A local view: consecutive frames of the global view's frames, from a smaller crop."""

    count: int = Field(1, ge=0, description="local views a clip")
    frames: int = Field(8, gt=0, description="frames a local view")
    size: int = Field(96, gt=0, description="side of the square view, pixels")
    scale: FractionRange = Field((0.08, 0.4), description="share of the frame's area that a crop covers")
    gray: Probability = Field(0.2, description="probability of a grey view")
    blur: Probability = Field(0.5, description="probability of a gaussian blur")


class VideoConfig(Settings):
    """The decoded frames and the views cut from them."""

    fps: float = Field(8.0, gt=0, description="frames a second; the stored rate must be a whole multiple")
    mean: tuple[float, float, float] = Field((0.485, 0.456, 0.406), description="subtracted from RGB in [0, 1]")
    std: tuple[Positive, Positive, Positive] = Field((0.229, 0.224, 0.225), description="RGB is divided by it")
    global_view: VideoView = VideoView()
    local_view: LocalVideoView = LocalVideoView()


class AudioView(Settings):
    """The global audio view: the whole clip. What changes the spectrogram is applied in the order of these fields."""

    volume: Strength = Field(0.1, description="the waveform is scaled by a factor in 1 +- this")
    time_warp: int = Field(0, ge=0, description="a moment of the spectrogram is moved by up to this many columns; 0: none")
    resize_crop: bool = Field(False, description="random resize crop of the spectrogram")
    freq_masks: int = Field(0, ge=0, description="stretches of mel bands that are set to 0, the mean")
    freq_mask_width: int = Field(10, ge=0, description="bands that such a mask covers at most")
    time_masks: int = Field(0, ge=0, description="stretches of columns that are set to 0, the mean")
    time_mask_width: int = Field(20, ge=0, description="columns that such a mask covers at most")


class LocalAudioView(AudioView):
    """A local audio view: its own stretch of the clip."""

    count: int = Field(1, ge=0, description="local views a clip")
    seconds: float = Field(1.0, gt=0, description="length of a local view")
    volume: Strength = Field(0.2, description="the waveform is scaled by a factor in 1 +- this")
    resize_crop: bool = Field(True, description="random resize crop of the spectrogram")


class AudioConfig(Settings):
    """The log-mel spectrogram and the views it is taken of."""

    sample_rate: int = Field(16000, gt=0, description="samples a second, as stored in the shards")
    num_mels: int = Field(80, gt=0, description="mel bands (Slaney scale and normalisation)")
    n_fft: int = Field(1024, gt=1, description="samples an analysis window (periodic Hann)")
    hop: int = Field(143, gt=0, description="samples between windows; a view has 1 + samples // hop of them")
    low_hz: float = Field(0.0, ge=0, description="lower edge of the mel bands")
    high_hz: float = Field(8000.0, gt=0, description="upper edge of the mel bands")
    mean: float = Field(-5.3688107, description="subtracted from the log-mel values")
    std: float = Field(4.410007, gt=0, description="the log-mel values are divided by it")
    global_view: AudioView = AudioView()
    local_view: LocalAudioView = LocalAudioView()

    @model_validator(mode="after")
    def _check(self):
        if not self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(
                f"low_hz {self.low_hz:g} and high_hz {self.high_hz:g} must satisfy low_hz < high_hz <= sample_rate / 2 ="
                f" {self.sample_rate / 2:g}"
            )
        return self

    def steps(self, num_samples: int) -> int:
        """Spectrogram columns of a waveform."""
        return 1 + num_samples // self.hop


def _check_spectrogram_fits(path: str, view: AudioView, bands: int, steps: int) -> None:
    for field, size, limit in (
        ("freq_mask_width", view.freq_mask_width * bool(view.freq_masks), bands),
        ("time_mask_width", view.time_mask_width * bool(view.time_masks), steps),
        ("time_warp", view.time_warp, (steps - 1) // 2),
    ):
        if size > limit:
            raise ValueError(f"{path}.{field} {size} is too much for a spectrogram of {bands} x {steps}: {limit} at most")


class DataConfig(Settings):
    """Where the clips come from and what one training example holds."""

    train: Location = Field(description="shard folder to train on: a path, or a URL that fsspec opens")
    test: Location | None = Field(None, description="shard folder to evaluate on, likewise")
    clip_seconds: float = Field(4.0, gt=0, description="length of a clip, the same stretch of both streams")
    min_seconds: float = Field(1.1, ge=0, description="pre-training drops samples with a shorter stream")
    num_threads: int | None = Field(
        None, gt=0, description="DALI threads a pipeline; unset: the cores that this rank may use, divided among its pipelines"
    )
    pipelines: int = Field(1, gt=0, description="pipelines a rank, which take batches in turn; several keep more of NVDEC busy")
    prefetch: int = Field(2, ge=1, description="batches prepared ahead of the one in use, at least one for each pipeline")
    order: Literal["block", "global"] = Field(
        "block", description="shuffle shards, then the samples of each block of them; or all samples (only for fast storage)"
    )
    block_shards: int = Field(4, gt=0, description="shards a block: more of them shuffle better and touch more files at a time")
    canonical_nodes: int = Field(
        16,
        gt=0,
        description="parts that an epoch is dealt into; a node of the run reads from few of them, however many there are",
    )
    read_ahead: int = Field(64, ge=0, description="samples being read ahead of use, each by a thread; 0 reads when asked")
    max_bad_share: float = Field(0.01, ge=0, le=1, description="training stops when more of an epoch's samples than this are bad")
    stage_dir: Path | None = Field(None, description="copy the shards to this folder of node-local disk before use, once a node")
    cache_dir: Path | None = Field(None, description="keep shards in this folder of node-local disk from their first use on")
    cache_bytes: int | None = Field(None, gt=0, description="shards in cache_dir take no more than this; unset: no limit")
    allow_pipe: bool = Field(False, description="allow pipe: locations, which run the shell command that they name")
    crop_from: Literal["source", "resized"] = Field(
        "source", description="crop at stored resolution, or after the short side is resized to the global view's size"
    )
    train_clips: int = Field(
        1, gt=0, description="linear, finetune and svm: clips a sample in an epoch, each with its own start and augmentation"
    )
    eval_clips: int = Field(1, gt=0, description="evaluation: clips a sample, spread evenly over it; 1 is the middle one")
    eval_crops: Literal[1, 3] = Field(
        1, description="evaluation: crops a clip; 1 is the centre, 3 are left, centre and right (top, middle, bottom if portrait)"
    )
    aligned_locals: bool = Field(False, description="local audio views start with the local video views")
    video: VideoConfig = VideoConfig()
    audio: AudioConfig = AudioConfig()

    @model_validator(mode="after")
    def _check(self):
        if self.prefetch < self.pipelines:
            raise ValueError(
                f"prefetch {self.prefetch} keeps only {self.prefetch} of {self.pipelines} pipelines at work: set prefetch to"
                f" {self.pipelines} or more, or pipelines to {self.prefetch} or fewer"
            )
        if self.stage_dir and self.cache_dir:
            raise ValueError("stage_dir copies every shard, cache_dir those in use: set one of them")
        if self.cache_bytes and not self.cache_dir:
            raise ValueError(f"cache_bytes {self.cache_bytes} limits cache_dir, which is not set: set it, or remove cache_bytes")
        frames = self.clip_seconds * self.video.fps
        if abs(frames - round(frames)) > 1e-6 or frames < 1:
            raise ValueError(
                f"clip_seconds {self.clip_seconds:g} at video.fps {self.video.fps:g} is {frames:g} frames: make it a whole number"
            )
        local = self.video.local_view
        if local.count and local.frames > self.num_frames:
            raise ValueError(f"video.local_view.frames {local.frames} is more than the {self.num_frames} frames of a clip")
        if self.audio.local_view.count and self.audio.local_view.seconds > self.clip_seconds:
            raise ValueError(
                f"audio.local_view.seconds {self.audio.local_view.seconds:g} is more than clip_seconds {self.clip_seconds:g}"
            )
        if self.aligned_locals and self.audio.local_view.count and not local.count:
            raise ValueError("aligned_locals needs local video views: set video.local_view.count or aligned_locals: false")
        for name, shape in (("global_view", self.audio_shape), ("local_view", self.local_audio_shape)):
            if shape:
                _check_spectrogram_fits(f"audio.{name}", getattr(self.audio, name), *shape[1:])
        return self

    @property
    def pipeline_threads(self) -> int:
        """DALI threads a pipeline, on this machine."""
        return self.num_threads or max(1, own_cores() // self.pipelines)

    @property
    def num_frames(self) -> int:
        return round(self.clip_seconds * self.video.fps)

    @property
    def clip_samples(self) -> int:
        """Audio samples a clip."""
        return round(self.clip_seconds * self.audio.sample_rate)

    @property
    def local_samples(self) -> int:
        """Audio samples a local view."""
        return round(self.audio.local_view.seconds * self.audio.sample_rate)

    @property
    def video_shape(self) -> tuple[int, int, int, int]:
        """(3, frames, height, width) of the global video view."""
        return (3, self.num_frames, self.video.global_view.size, self.video.global_view.size)

    @property
    def local_video_shape(self) -> tuple[int, int, int, int] | None:
        """(3, frames, height, width) of a local video view; None where there are none."""
        local = self.video.local_view
        return (3, local.frames, local.size, local.size) if local.count else None

    @property
    def audio_shape(self) -> tuple[int, int, int]:
        """(1, mel bands, steps) of the global audio view."""
        return (1, self.audio.num_mels, self.audio.steps(self.clip_samples))

    @property
    def local_audio_shape(self) -> tuple[int, int, int] | None:
        """(1, mel bands, steps) of a local audio view; None where there are none."""
        return (1, self.audio.num_mels, self.audio.steps(self.local_samples)) if self.audio.local_view.count else None

    @property
    def view_shapes(self) -> dict[str, tuple[int, ...] | None]:
        """All four, by the names of the properties above: what a network is built for."""
        return {name: getattr(self, name) for name in ("video_shape", "audio_shape", "local_video_shape", "local_audio_shape")}
