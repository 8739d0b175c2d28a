import wave
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media import click, flash, gray, tone, without_packets, write_clip
from tests.pipelines.bad_media import remuxed
from xkd.pipelines.convert.sources.item import Location
from xkd.pipelines.media.container import MediaError
from xkd.pipelines.media.decode import clean_size, open_pictures, read_sound


def clean_pictures(path, fps=8, short_side=128):
    """All clean frames of a file [T, 3/2 H, W] as planar yuv420p, and the time of the first."""
    with open_pictures(Location(path), fps=fps, short_side=short_side, multiple=16) as pictures:
        return np.stack([frame.to_ndarray() for frame in pictures.frames]), pictures.start_seconds


def clean_sound(path, start_seconds=Fraction(0), max_samples=10**6):
    return read_sound(Location(path), sample_rate=16000, start_seconds=start_seconds, max_samples=max_samples)[0]


CONTAINERS = {".mp4": ("libx264", "aac"), ".mkv": ("libx264", "aac"), ".webm": ("libvpx-vp9", "libopus"), ".ts": ("libx264", "aac")}
STARTS = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.4), (2.0, 2.3)]


@pytest.mark.parametrize(
    ("suffix", "starts"), [*((suffix, starts) for suffix in CONTAINERS for starts in STARTS), (".avi", STARTS[0])]
)
def test_pictures_and_sound_stay_together_wherever_their_streams_start(tmp_path, suffix, starts):
    video_codec, audio_codec = CONTAINERS.get(suffix, ("mpeg4", "pcm_s16le"))
    video_start, audio_start = starts
    path = write_clip(
        tmp_path / f"clip{suffix}",
        picture=flash(at=1.0),
        sound=click(at=1.0 + video_start - audio_start),  # on the file's clock, when the flash is
        video_codec=video_codec,
        audio_codec=audio_codec,
        video_start=video_start,
        audio_start=audio_start,
        sample_rate=48000,
        seconds=2.5,
        fps=24,
    )
    frames, start = clean_pictures(path)
    sound = clean_sound(path, start)
    bright = np.flatnonzero(frames[:, :128].mean(axis=(1, 2)) > 128)
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 6000)
    assert bright.tolist() == [8, 9]
    assert abs(loud[0] / 16000 - 1.0) < 0.002
    assert abs(loud[-1] / 16000 - 1.25) < 0.002


def test_sound_is_cut_at_the_end_of_the_pictures_and_not_invented(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", sound=tone(440), seconds=1.0)
    assert len(clean_sound(path, max_samples=4000)) == 4000
    assert abs(len(clean_sound(path)) - 16000) < 1100  # AAC may pad by one block


@pytest.mark.parametrize("fps", [5, 8, 12, 24, 25, 29.97, 60])
def test_every_clean_frame_shows_the_source_at_its_time(tmp_path, fps):
    path = write_clip(tmp_path / "clip.mp4", picture=gray(lambda time: 20 + 100 * time), sound=None, seconds=2.0, fps=fps)
    frames, _ = clean_pictures(path)
    times = np.floor((np.arange(16) / 8 + 1e-3) * fps) / fps
    assert len(frames) == 16
    luma = 16 + (20 + 100 * times) * 219 / 255
    np.testing.assert_allclose(frames[:, :128].mean(axis=(1, 2)), luma, atol=2.0)


def test_a_variable_frame_rate_becomes_constant(tmp_path):
    times = [0.0, 0.04, 0.5, 0.51, 1.2, 1.3, 1.7]
    path = write_clip(tmp_path / "clip.mkv", picture=gray(lambda time: 20 + 100 * time), sound=None, frame_times=times)
    frames, _ = clean_pictures(path)
    shown = np.array([max(time for time in times if time <= step / 8 + 1e-3) for step in range(len(frames))])
    np.testing.assert_allclose(frames[:, :128].mean(axis=(1, 2)), 16 + (20 + 100 * shown) * 219 / 255, atol=2.0)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_every_pixel_format_ends_with_the_same_colours(tmp_path, pixel_format):
    path = write_clip(tmp_path / "clip.mp4", picture=lambda time: (200, 60, 30), sound=None, seconds=0.5, pixel_format=pixel_format)
    frames, _ = clean_pictures(path)
    luma, blue, red = frames[-1, :128], frames[-1, 128:160], frames[-1, 160:]
    np.testing.assert_allclose([luma.mean(), blue.mean(), red.mean()], [100.5, 94.1, 191.6], atol=2.5)  # BT.601, limited range


@pytest.mark.parametrize("sample_rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_keeps_its_pitch_and_level_at_any_rate(tmp_path, sample_rate, channels):
    path = write_clip(tmp_path / "clip.mkv", audio_codec="pcm_s16le", sound=tone(440), sample_rate=sample_rate, channels=channels)
    sound = clean_sound(path)[:32000].astype(float)
    expected = 0.5 * 32767 * np.sin(2 * np.pi * 440 * np.arange(len(sound)) / 16000)
    assert len(sound) >= 31990
    np.testing.assert_allclose(sound[500:-500], expected[500:-500], atol=200)


@pytest.mark.parametrize(("size", "stored"), [((96, 96), (128, 128)), ((256, 340), (128, 176)), ((340, 256), (176, 128))])
def test_pictures_are_scaled_by_their_short_side(tmp_path, size, stored):
    path = write_clip(tmp_path / "clip.mp4", height=size[0], width=size[1], sound=None, seconds=0.5)
    frames, _ = clean_pictures(path)
    assert frames.shape[1:] == (stored[0] * 3 // 2, stored[1])


@pytest.mark.parametrize(("rotation", "stored"), [(0, (128, 176)), (90, (176, 128))])
def test_pixels_that_are_not_square_are_stretched(tmp_path, rotation, stored):
    path = write_clip(
        tmp_path / "clip.mp4", height=240, width=180, pixel_aspect=Fraction(16, 9), rotation=rotation, sound=None, seconds=0.5
    )
    frames, _ = clean_pictures(path)
    assert frames.shape[1:] == (stored[0] * 3 // 2, stored[1])


@pytest.mark.parametrize(("height", "width"), [(2, 2), (17, 33), (131, 127), (129, 128)])
def test_odd_and_tiny_sizes_are_no_obstacle(tmp_path, height, width):
    path = write_clip(tmp_path / "clip.mkv", height=height, width=width, video_codec="ffv1", sound=None, seconds=0.5)
    frames, _ = clean_pictures(path)
    assert min(frames.shape[1] * 2 // 3, frames.shape[2]) == 128
    np.testing.assert_allclose(frames[:, :128].mean(), 126, atol=2)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_an_avi_has_no_times_but_keeps_its_order_and_its_sound(tmp_path, codec):
    path = write_clip(
        tmp_path / "clip.avi",
        picture=flash(at=1.0),
        sound=click(at=1.0),
        video_codec=codec,
        audio_codec="pcm_s16le",
        fps=24,
        video_options={"bf": "2"},
    )
    frames, start = clean_pictures(path, fps=24)
    assert len(frames) == 48
    assert np.flatnonzero(frames[:, :128].mean(axis=(1, 2)) > 128).tolist() == list(range(24, 30))
    assert abs(np.flatnonzero(np.abs(clean_sound(path, start).astype(int)) > 6000)[0] / 16000 - 1.0) < 0.002


@pytest.mark.parametrize(("codec", "pixel_format"), [("mjpeg", "yuvj420p"), ("libvpx-vp9", "yuv420p")])
@pytest.mark.parametrize("later", [(64, 64), (256, 512)])
def test_pictures_that_change_their_size_midway_fill_the_size_of_the_first(tmp_path, codec, pixel_format, later):
    form = {"sound": None, "seconds": 1.0, "video_codec": codec, "pixel_format": pixel_format}
    parts = [
        write_clip(tmp_path / f"{level}.mp4", picture=gray(level), height=height, width=width, **form).read_bytes()
        for level, (height, width) in ((60, (128, 224)), (200, later))
    ]
    path = tmp_path / "clip.mp4"
    path.write_bytes(remuxed(parts))
    frames, _ = clean_pictures(path)
    assert frames.shape == (16, 192, 224)
    levels = frames[:, :128].astype(int)
    assert np.ptp(levels, axis=(1, 2)).max() < 6
    found = levels.mean(axis=(1, 2))
    assert np.ptp(found[:8]) < 3
    assert np.ptp(found[8:]) < 3
    assert found[8] - found[7] > 100


def test_lost_packets_of_sound_leave_silence_and_no_shift(tmp_path):
    sound = lambda times: click(at=0.5)(times) + click(at=1.5)(times)  # noqa: E731
    whole = write_clip(tmp_path / "whole.mkv", audio_codec="pcm_s16le", sound=sound, sample_rate=48000)
    found = clean_sound(without_packets(whole, tmp_path / "clip.mkv", "audio", 0.4, 1.0))
    loud = np.flatnonzero(np.abs(found.astype(int)) > 6000) / 16000
    assert abs(len(found) - 32000) <= 16
    assert not found[6800:15600].any()
    assert abs(loud[0] - 1.5) < 0.002
    assert abs(loud[-1] - 1.75) < 0.002


def test_surround_sound_is_mixed_to_one_channel_without_overload(tmp_path):
    hertz = np.array([300, 500, 700, 900, 1100, 1300])[:, None]  # front left, right, centre, low, back left, right
    path = tmp_path / "clip.wav"
    write_clip(path, picture=None, audio_codec="pcm_s16le", layout="5.1", sound=lambda times: np.sin(2 * np.pi * hertz * times))
    level = np.abs(np.fft.rfft(clean_sound(path)[:16000].astype(float)))[hertz[:, 0]] / 8000 / 32767
    np.testing.assert_allclose(level, [0.207, 0.207, 0.293, 0, 0.146, 0.146], atol=0.005)  # of ITU-R BS.775, scaled to sum to 1


def test_sound_of_channels_nobody_can_place_says_so(tmp_path):
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setnchannels(9)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(18 * 16000))
    with pytest.raises(MediaError, match="its sound of 9 channels cannot be mixed to one"):
        clean_sound(tmp_path / "clip.wav")


@given(height=st.integers(2, 4320), width=st.integers(2, 7680), short_side=st.sampled_from([128, 256]))
def test_a_clean_size_has_the_short_side_and_the_nearest_proportion(height, width, short_side):
    clean = clean_size(height, width, short_side, 16)
    assert min(clean) == short_side
    assert max(clean) % 16 == 0
    assert abs(max(clean) - max(height, width) * short_side / min(height, width)) <= 8
    assert (clean[0] - clean[1]) * (height - width) >= 0


def test_a_file_without_pictures_or_without_sound_says_so(tmp_path):
    silent = write_clip(tmp_path / "silent.mp4", sound=None, seconds=0.5)
    dark = write_clip(tmp_path / "dark.mp4", picture=None, seconds=0.5)
    with pytest.raises(MediaError, match="it has no sound"):
        clean_sound(silent)
    with pytest.raises(MediaError, match="it has no pictures"):
        clean_pictures(dark)
