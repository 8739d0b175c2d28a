"""One AV-Digits clip as arrays, a pure function of (seed, split, index)."""

from dataclasses import dataclass

import numpy as np

from xkd.pipelines.avdigits.picture import draw_picture
from xkd.pipelines.avdigits.scans import CLASSES, SPLITS, scans
from xkd.pipelines.avdigits.settings import RECIPE, Settings
from xkd.pipelines.avdigits.sound import draw_sound

FACTS, PICTURE, SOUND = range(3)  # streams of random numbers, so that a change to one leaves the others


@dataclass(frozen=True)
class Facts:
    """What a clip is, known without drawing it."""

    label: int
    occluded: bool  # an occluder hides much of the digit
    buried: bool  # the tones lie far below the noise


@dataclass(frozen=True)
class Clip:
    frames: np.ndarray  # [T, H, W, 3] uint8
    sound: np.ndarray  # [S] float32 in [-1, 1]
    facts: Facts


def clip_facts(seed: int, split: str, index: int, settings: Settings = RECIPE) -> Facts:
    """Classes take turns, so that any run of ten clips holds each once."""
    occluded, buried = _rng(seed, split, index, FACTS).random(2) < (settings.occluded_share, settings.buried_share)
    return Facts(label=index % CLASSES, occluded=bool(occluded), buried=bool(buried))


def make_clip(seed: int, split: str, index: int, settings: Settings = RECIPE) -> Clip:
    facts = clip_facts(seed, split, index, settings)
    rng = _rng(seed, split, index, PICTURE)
    by_class = scans(split)
    others = rng.choice([label for label in range(CLASSES) if label != facts.label], settings.fragments)
    scan, *others = (rng.choice(by_class[label]) for label in (facts.label, *others))
    sound = draw_sound(_rng(seed, split, index, SOUND), settings, facts.label, buried=facts.buried)
    sounding = np.array([part.mean() for part in np.array_split(sound.envelope, settings.num_frames)])
    visible = 1 - settings.synchrony * (1 - sounding)
    frames = draw_picture(rng, settings, scan, others, occluded=facts.occluded, visible=visible)
    return Clip(frames, sound.samples, facts)


def _rng(seed, split, index, stream) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), index, stream])
