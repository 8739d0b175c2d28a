"""The baselines that set the difficulty of AV-Digits read what is in the files."""

import numpy as np
import pytest

from xkd.benchmarks.avdigits_baselines import SAMPLE_RATE, audio_feature, csv_rows, read_mp4, video_feature
from xkd.pipelines.avdigits.clip import make_clip
from xkd.pipelines.avdigits.encode import write_mp4


def test_the_video_feature_is_the_mean_colour_of_each_of_256_places():
    frames = np.zeros((4, 32, 48, 3), np.uint8)
    frames[1:3, 2:4, 3:6, 1] = 255  # half of the time, the place in row 1 and column 1 is green
    feature = video_feature(frames).reshape(3, 16, 16)
    assert feature[1, 1, 1] == pytest.approx(0.5)
    assert feature.sum() == pytest.approx(0.5)


@pytest.mark.parametrize("hertz", [440, 1477, 5000])
def test_the_audio_feature_peaks_at_the_mel_of_a_tone(hertz):
    sound = np.sin(2 * np.pi * hertz * np.arange(SAMPLE_RATE, dtype=np.float32) / SAMPLE_RATE)
    feature = audio_feature(sound)

    def slaney_mel(hz):
        return hz / (200 / 3) if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)

    expected = slaney_mel(hertz) / slaney_mel(8000) * 81 - 1
    assert abs(feature.argmax() - expected) <= 1


def test_a_file_gives_the_features_of_its_clip(tmp_path):
    clip = make_clip(0, "test", 4)
    write_mp4(tmp_path / "4.mp4", clip.frames, 8, clip.sound, 44_100)
    frames, sound = read_mp4(tmp_path / "4.mp4")
    assert np.abs(video_feature(frames) - video_feature(clip.frames)).max() < 0.03
    assert len(sound) == pytest.approx(2 * SAMPLE_RATE, abs=400)


def test_csv_rows_hold_per_cent_and_what_they_stood_on():
    (row,) = csv_rows({"SVM": {"video": np.array([True, True, True, False])}}, "the command")
    assert (row["baseline"], row["modality"], row["mean"]) == ("SVM", "video", "75.00")
    assert float(row["low"]) < 75 < float(row["high"])
    assert row["command"] == "the command"
    assert {"cpu", "av", "sklearn", "commit"} <= row.keys()
