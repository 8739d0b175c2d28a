import os
import random
import struct

import av
import numpy as np
import pytest

from tests.media import click, gray, tone, write_clip
from xkd.pipelines.convert.profiles import PROFILES
from xkd.pipelines.convert.sample import Converted, convert
from xkd.pipelines.convert.sources.item import Item, Location
from xkd.pipelines.media.container import MediaError, open_media
from xkd.pipelines.media.decode import open_pictures, read_sound

FORMATS = {
    ".mp4": ("libx264", "aac"),
    ".mkv": ("libx264", "aac"),
    ".webm": ("libvpx-vp9", "libopus"),
    ".ts": ("libx264", "aac"),
    ".avi": ("mjpeg", "mp3"),
    ".mpg": ("mpeg2video", "mp2"),
}


def decode_all(path):
    settings = {"fps": 8, "short_side": 128, "multiple": 16}
    with open_pictures(Location(path), **settings) as pictures:
        frames = len(list(pictures.frames))
    return frames, len(read_sound(Location(path), sample_rate=16000)[0])


@pytest.fixture(scope="module")
def long_files(tmp_path_factory):
    """Twelve seconds in each format: pictures that become brighter, and a click after 7 seconds."""
    folder = tmp_path_factory.mktemp("long")
    return {
        suffix: write_clip(
            folder / f"long{suffix}",
            picture=gray(lambda time: 20 + 15 * time),
            sound=click(at=7.0),
            seconds=12.0,
            fps=25,
            gop=50,
            video_codec=video,
            audio_codec=audio,
            sample_rate=48000,
            pixel_format="yuvj420p" if video == "mjpeg" else "yuv420p",
            video_options={"qmin": "1", "qmax": "1"} if video == "mpeg2video" else None,
        )
        for suffix, (video, audio) in FORMATS.items()
    }


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("begin", "end", "seconds"), [(0.0, 1.5, 1.5), (6.3, 8.8, 2.5), (10.5, 20.0, 1.5)])
def test_a_time_range_is_cut_out_exactly(long_files, suffix, begin, end, seconds):
    where = {"time_range": (begin, end)}
    with open_pictures(Location(long_files[suffix]), fps=8, short_side=128, multiple=16, **where) as pictures:
        frames, start = np.stack([frame.to_ndarray()[:128] for frame in pictures.frames]), pictures.start_seconds
    assert len(frames) == seconds * 8
    times = np.floor((begin + np.arange(len(frames)) / 8 + 1e-3) * 25) / 25
    np.testing.assert_allclose(frames.mean(axis=(1, 2)), 16 + (20 + 15 * times) * 219 / 255, atol=2.5)
    sound, _ = read_sound(
        Location(long_files[suffix]), sample_rate=16000, start_seconds=start, max_samples=len(frames) * 2000, **where
    )
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 6000) / 16000 + begin
    if begin < 7 < end:
        assert abs(loud[0] - 7) < 0.03  # containers without an index, and mp3, count time less finely
    else:
        assert not len(loud)


def test_a_time_range_past_the_end_is_an_error_and_a_cut_file_is_taken_whole(long_files):
    settings = {"fps": 8, "short_side": 128, "multiple": 16}
    late = open_pictures(Location(long_files[".mp4"]), **settings, time_range=(30.0, 40.0))
    with pytest.raises(MediaError, match="its video holds no frame from 30 to 40 s"), late:
        pass
    with open_pictures(Location(long_files[".mp4"]), **settings, time_range=(30.0, 41.5)) as pictures:
        assert len(list(pictures.frames)) == 96


@pytest.mark.parametrize("default", [0, 1])
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "pcm_s16le")])
def test_the_default_track_is_heard(tmp_path, suffix, codec, default):
    path = write_clip(tmp_path / f"clip{suffix}", audio_codec=codec, other_sounds=[tone(1000)], default_sound=default, seconds=1.0)
    sound, _ = read_sound(Location(path), sample_rate=16000)
    assert np.abs(np.fft.rfft(sound[:16000].astype(float))).argmax() == (440, 1000)[default]


def half(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_file_cut_in_half_is_not_taken_for_a_shorter_one(long_files, tmp_path, suffix):
    path = tmp_path / f"half{suffix}"
    path.write_bytes(long_files[suffix].read_bytes())
    with pytest.raises(MediaError, match=r"it is not whole|lost its begin or its end|is damaged"):
        decode_all(half(path))


def test_half_an_mp4_whose_index_comes_first_is_not_taken_for_a_shorter_one(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", seconds=4.0, container_options={"movflags": "faststart"})
    assert decode_all(path)[0] == 32
    with pytest.raises(MediaError, match=r"it ends after [\d.]+ s of 4.00 s: it is not whole|is damaged"):
        decode_all(half(path))


@pytest.mark.parametrize(("begin", "frames"), [(2.0, 80), (9.0, 80), (5.0, 80)])
def test_a_stretch_copied_out_of_a_longer_mp4_is_whole_though_frames_before_it_are_hidden(tmp_path, begin, frames):
    """The copy begins with the key frame before, which an edit list hides, with all up to the begin."""
    source = write_clip(tmp_path / "long.mp4", seconds=20.0, fps=25, gop=125, video_options={"sc_threshold": "0"})
    path = copy_stretch(source, tmp_path / "copy.mp4", begin, 10.0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == 10
        assert (stream.frames > 250) == (begin % 5 != 0)
    assert decode_all(path)[0] == frames
    path = copy_stretch(source, tmp_path / "half.mp4", begin, 10.0, movflags="faststart")
    with pytest.raises(MediaError, match=r"it ends after [\d.]+ s of 10.0\d s: it is not whole|is damaged"):
        decode_all(half(path))


def copy_stretch(source, target, begin, seconds, **options):
    """Copy packets from the key frame before `begin` on; what lies before `begin` has negative times, which an edit list hides."""
    with av.open(str(source)) as read, av.open(str(target), "w", options={"avoid_negative_ts": "disabled", **options}) as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in read.streams}
        read.seek(int(begin * av.time_base))
        for packet in read.demux():
            if packet.dts is None or not packet.pts * packet.time_base < begin + seconds:
                continue
            if packet.stream.type == "audio" and packet.pts * packet.time_base < begin:
                continue
            shift = round(begin / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, streams[packet.stream.index]
            container.mux(packet)
    return target


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_end_in_words_or_in_all_the_pictures(long_files, tmp_path, suffix, seed):
    random_bytes, data = random.Random(seed), bytearray(long_files[suffix].read_bytes())
    for _ in range(30):
        data[random_bytes.randrange(len(data) // 10, len(data))] = random_bytes.randrange(256)
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(data)
    result = convert(Item(Location(path), path.name, ("a",), "train"), PROFILES["pretrain"])
    assert result.frames == 96 if isinstance(result, Converted) else result.reason


def test_a_claim_of_four_hours_is_refused_before_decoding(tmp_path):
    path = write_clip(tmp_path / "clip.mkv")
    data = bytearray(path.read_bytes())
    place = data.find(b"\x44\x89\x88") + 3  # the duration in milliseconds, a double
    data[place : place + 8] = struct.pack(">d", 4 * 3600e3)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="it claims to last 14400 s, but a clip may last 1200 s"):
        decode_all(path)


def test_a_time_stamp_hours_ahead_ends_in_words(tmp_path):
    path = write_clip(tmp_path / "clip.ts", frame_times=[0.0, 0.1, 4 * 3600.0], sound=None)
    with pytest.raises(MediaError, match="its video lasts more than 1200 s"):
        decode_all(path)


def test_absurd_pictures_are_refused(tmp_path):
    settings = {"sound": None, "seconds": 1.0, "fps": 2, "video_codec": "mjpeg", "pixel_format": "yuvj420p"}
    with pytest.raises(MediaError, match="its pictures are 4112x2320, more than 9437184 pixels"):
        decode_all(write_clip(tmp_path / "large.avi", height=2320, width=4112, **settings))
    with pytest.raises(MediaError, match="its pictures are 512x32; one side may be at most 8 times the other"):
        decode_all(write_clip(tmp_path / "strip.avi", height=32, width=512, **settings))


def test_a_pipe_does_not_keep_us_waiting(tmp_path):
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(MediaError, match="it is not a regular file"), open_media(Location(tmp_path / "clip.mp4")):
        pass


def test_a_file_within_a_larger_one_is_read_in_place(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", seconds=1.0)
    size = path.stat().st_size
    (tmp_path / "pack").write_bytes(b"x" * 1000 + path.read_bytes() + b"y" * 1000)
    with open_media(Location(tmp_path / "pack", "clip.mp4", 1000, size)) as container:
        assert len(container.streams) == 2
