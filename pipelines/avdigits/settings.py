"""What an AV-Digits clip is made of: every range the drawing of a picture or a sound depends on."""

from dataclasses import asdict, dataclass

FORMAT = 1  # raised when the same settings would draw other clips


@dataclass(frozen=True)
class Settings:
    """Pairs are the ends of uniform draws; the values were fixed with the non-neural baselines, before any training."""

    num_frames: int = 16
    fps: int = 8
    size: int = 128  # height and width in pixels

    digit_size: tuple[float, float] = (0.65, 0.90)  # side of the scan as a share of the frame's
    place: float = 0.5  # how far from the centre, as a share of the free space on either side
    drift: float = 0.10  # travel over the clip, as a share of the frame
    turn_start: float = 10.0  # degrees
    turn_drift: float = 15.0  # degrees over the clip
    zoom: float = 0.08  # growth over the clip
    contrast: tuple[float, float] = (0.45, 0.80)  # bright digit on a dark ground, about mid-grey
    colour_offset: float = 0.125  # of each channel of digit, ground and occluder
    clutter: float = 0.2  # amplitude of the moving ground and of the fragments on it
    clutter_cells: int = 8  # smooth blobs across a frame
    fragments: int = 2  # pieces of other digits in the ground
    pixel_noise: float = 0.03
    occluded_share: float = 0.15  # of the clips
    occluded_ink: tuple[float, float] = (0.4, 0.7)  # share of the digit's ink behind the occluder

    sample_rate: int = 44_100
    bursts: tuple[int, int] = (2, 4)  # of the digit's tones in a clip, both ends included
    duty: tuple[float, float] = (0.35, 0.75)  # share of a burst's period that sounds
    balance: tuple[float, float] = (0.7, 1.3)  # high tone's amplitude over the low one's
    snr_db: tuple[float, float] = (-6.0, 12.0)  # sounding tones over noise
    buried_share: float = 0.15  # of the clips
    buried_snr_db: tuple[float, float] = (-26.0, -16.0)
    distractors: int = 2  # steady tones that mean nothing
    distractor_hz: tuple[float, float] = (300.0, 5000.0)
    distractor_snr_db: tuple[float, float] = (-24.0, -6.0)
    noise_hz: float = 8000.0  # upper edge of the noise
    noise_tilt_db: tuple[float, float] = (-6.0, 0.0)  # per octave
    level_db: tuple[float, float] = (-26.0, -16.0)  # RMS of the clip, full scale 0

    # What studies vary, off in the data set itself.
    synchrony: float = 0.0  # share of its contrast that a digit loses while its tones are silent

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps

    @property
    def description(self) -> dict:
        """Every field, but for those that studies vary and that are off, so that sets from before such a field stay the same."""
        return {name: value for name, value in asdict(self).items() if name not in VARIED or value}


VARIED = ("synchrony",)

RECIPE = Settings()
