"""AV-Digits clips: pure functions of (seed, split, index) that show what they say."""

from dataclasses import replace

import numpy as np
import pytest

from xkd.pipelines.avdigits.clip import clip_facts, make_clip
from xkd.pipelines.avdigits.scans import CLASSES, scans
from xkd.pipelines.avdigits.settings import RECIPE
from xkd.pipelines.avdigits.sound import DTMF, draw_sound

QUIET = replace(RECIPE, snr_db=(12.0, 12.0), distractors=0, noise_tilt_db=(0.0, 0.0))


def test_a_clip_is_a_pure_function_of_seed_split_and_index():
    one, again = make_clip(3, "train", 41), make_clip(3, "train", 41)
    assert one.facts == again.facts
    assert np.array_equal(one.frames, again.frames)
    assert np.array_equal(one.sound, again.sound)


@pytest.mark.parametrize("place", [(4, "train", 41), (3, "test", 41), (3, "train", 51)])
def test_another_seed_split_or_index_gives_another_clip(place):
    one, other = make_clip(3, "train", 41), make_clip(*place)
    assert one.facts.label == other.facts.label
    assert not np.array_equal(one.frames, other.frames)
    assert not np.array_equal(one.sound, other.sound)


@pytest.mark.parametrize(("size", "num_frames"), [(128, 16), (96, 9)])
def test_a_clip_has_the_sizes_of_its_settings(size, num_frames):
    settings = replace(RECIPE, size=size, num_frames=num_frames)
    clip = make_clip(0, "test", 7, settings)
    assert clip.frames.shape == (num_frames, size, size, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.sound.shape == (num_frames * settings.sample_rate // settings.fps,)
    assert clip.sound.dtype == np.float32
    assert np.abs(clip.sound).max() <= 1


def test_no_scan_serves_both_training_and_testing():
    known = {scan.tobytes() for by_class in scans("train") for scan in by_class}
    unseen = [scan.tobytes() not in known for by_class in scans("test") for scan in by_class]
    assert all(unseen)
    assert len(known) + len(unseen) == 1797


def test_ten_clips_in_a_row_hold_each_class_once():
    assert sorted(clip_facts(0, "train", index).label for index in range(33, 43)) == list(range(CLASSES))


def test_the_asked_shares_of_the_clips_are_occluded_and_buried_independently():
    facts = [clip_facts(0, "train", index) for index in range(4000)]
    occluded, buried = np.array([(fact.occluded, fact.buried) for fact in facts]).T
    for events, share in ((occluded, 0.15), (buried, 0.15), (occluded & buried, 0.15**2)):
        deviation = np.sqrt(share * (1 - share) / len(facts))
        assert abs(events.mean() - share) < 4 * deviation


def test_an_occluder_hides_part_of_the_picture_and_nothing_else():
    always, never = (make_clip(0, "train", 8, replace(RECIPE, occluded_share=share)) for share in (1.0, 0.0))
    hidden = (always.frames != never.frames).any(axis=-1).mean()
    assert 0.05 < hidden < 0.7
    assert np.array_equal(always.sound, never.sound)


def test_with_synchrony_a_digit_pales_while_its_tones_are_silent_and_the_sound_stays():
    plain, in_time = (make_clip(0, "train", 8, replace(RECIPE, occluded_share=0.0, synchrony=share)) for share in (0.0, 1.0))
    envelope = draw_sound(np.random.default_rng([0, 0, 8, 2]), RECIPE, 8, buried=plain.facts.buried).envelope
    sounding = np.array([part.mean() for part in np.array_split(envelope, RECIPE.num_frames)])
    changed = np.abs(plain.frames.astype(int) - in_time.frames).mean((1, 2, 3))
    assert np.corrcoef(changed, 1 - sounding)[0, 1] > 0.95
    assert changed[sounding == 1].max(initial=0) == 0
    assert np.array_equal(plain.sound, in_time.sound)


def test_a_field_that_studies_vary_is_not_described_while_it_is_off():
    assert "synchrony" not in RECIPE.description
    assert replace(RECIPE, synchrony=0.5).description == RECIPE.description | {"synchrony": 0.5}


@pytest.mark.parametrize("label", range(CLASSES))
def test_the_loudest_frequencies_are_the_telephone_tones_of_the_label(label):
    sound = draw_sound(np.random.default_rng(label), QUIET, label, buried=False).samples
    spectrum = np.abs(np.fft.rfft(sound))
    hertz = np.fft.rfftfreq(len(sound), 1 / QUIET.sample_rate)
    for low, high, expected in ((650, 1050, DTMF[label][0]), (1100, 1600, DTMF[label][1])):
        band = (hertz > low) & (hertz < high)
        assert abs(hertz[band][spectrum[band].argmax()] - expected) < 5


def test_the_telephone_tones_tell_all_classes_apart():
    assert len(set(DTMF)) == CLASSES


def test_buried_tones_lie_as_far_below_the_noise_as_asked():
    def tone_power(buried):
        settings = replace(QUIET, buried_snr_db=(-18.0, -18.0), noise_hz=600.0)
        spectrum = np.abs(np.fft.rfft(draw_sound(np.random.default_rng(1), settings, 5, buried=buried).samples)) ** 2
        noise = round(600 * settings.seconds)
        return 10 * np.log10(spectrum[noise + 1 :].sum() / spectrum[:noise].sum())

    assert tone_power(buried=False) - tone_power(buried=True) == pytest.approx(30, abs=1)
