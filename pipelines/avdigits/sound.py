"""Draws the sound of a clip: bursts of the digit's telephone tones among steady tones and noise, sometimes buried."""

from typing import NamedTuple

import numpy as np

from xkd.pipelines.avdigits.settings import Settings

# ITU-T Q.23: the pair of frequencies (Hz) of each telephone key.
DTMF = (
    (941, 1336),
    (697, 1209),
    (697, 1336),
    (697, 1477),
    (770, 1209),
    (770, 1336),
    (770, 1477),
    (852, 1209),
    (852, 1336),
    (852, 1477),
)
RAMP_SECONDS = 0.005  # of a burst's edges, so that they do not click


class Sound(NamedTuple):
    samples: np.ndarray  # [S] float32 in [-1, 1]
    envelope: np.ndarray  # [S] of the digit's tones, in [0, 1]


def draw_sound(rng: np.random.Generator, settings: Settings, label: int, *, buried: bool) -> Sound:
    """Mono sound at `settings.sample_rate`; signal-to-noise ratios are of a tone while it sounds."""
    time = np.arange(round(settings.seconds * settings.sample_rate), dtype=np.float32) / settings.sample_rate
    low, high = DTMF[label]
    balance = rng.uniform(*settings.balance)
    pair = _tone(rng, time, low) + balance * _tone(rng, time, high)
    snr_db = rng.uniform(*(settings.buried_snr_db if buried else settings.snr_db))

    sound = _noise(rng, settings, len(time))
    envelope = _bursts(rng, settings, time)
    sound += _amplitude(snr_db, power=(1 + balance**2) / 2) * envelope * pair
    for _ in range(settings.distractors):
        tone = _tone(rng, time, rng.uniform(*settings.distractor_hz))
        sound += _amplitude(rng.uniform(*settings.distractor_snr_db), power=0.5) * tone

    sound *= 10 ** (rng.uniform(*settings.level_db) / 20) / np.sqrt(np.mean(sound**2))
    return Sound(np.clip(sound, -1, 1), envelope)


def _tone(rng, time, hertz) -> np.ndarray:
    return np.sin(np.float32(2 * np.pi * hertz) * time + np.float32(rng.uniform(0, 2 * np.pi)))


def _amplitude(snr_db, *, power) -> np.float32:
    """Factor that brings a tone of this power to `snr_db` over noise of power 1."""
    return np.float32(10 ** (snr_db / 20) / np.sqrt(power))


def _bursts(rng, settings, time) -> np.ndarray:
    """Envelope [S] in [0, 1] of equal bursts at a random tempo, from a random onset."""
    first, last = settings.bursts
    period = settings.seconds / rng.integers(first, last, endpoint=True)
    length = rng.uniform(*settings.duty) * period
    since_onset = (time - np.float32(rng.uniform(0, period - length))) % np.float32(period)
    return np.clip(np.minimum(since_onset, length - since_onset) / RAMP_SECONDS, 0, 1, dtype=np.float32)


def _noise(rng, settings, samples) -> np.ndarray:
    """Gaussian noise [S] of power 1 up to `noise_hz`, its spectrum tilted by so many decibels an octave."""
    bins = round(settings.noise_hz * samples / settings.sample_rate)
    tilt = rng.uniform(*settings.noise_tilt_db) / (20 * np.log10(2))
    # Flat below 100 Hz: a tilt without end would put all the power into rumble.
    hertz = np.maximum(np.arange(1, bins) * settings.sample_rate / samples, 100)
    spectrum = np.zeros(samples // 2 + 1, np.complex64)
    spectrum[1:bins] = rng.standard_normal(2 * (bins - 1), dtype=np.float32).view(np.complex64) * hertz**tilt
    noise = np.fft.irfft(spectrum, samples).astype(np.float32)
    return noise / np.sqrt(np.mean(noise**2))
