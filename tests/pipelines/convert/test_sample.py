import json

import av
import pytest

from tests.media import write_clip
from xkd.pipelines.convert.profiles import PROFILES
from xkd.pipelines.convert.sample import Converted, Failure, convert
from xkd.pipelines.convert.sources.item import Item, Location
from xkd.pipelines.media.container import FORMATS
from xkd.pipelines.media.encode import decode_wav, decoded_shape


def item(path):
    return Item(Location(path), f"dog/{path.name}", ("dog",), "train")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_sample_has_the_form_of_its_profile(tmp_path, profile):
    sample = convert(item(write_clip(tmp_path / "clip.mp4", height=180, width=320, fps=25, sample_rate=44100)), profile)
    assert isinstance(sample, Converted)
    side = profile.video.short_side
    assert decoded_shape(sample.video) == (sample.frames, sample.height, sample.width) == (16, side, round(side * 16 / 9 / 16) * 16)
    sound, rate = decode_wav(sample.audio)
    assert (len(sound), rate) == (sample.audio_samples, sample.audio_rate) == (32000, 16000)


def test_a_sample_tells_where_it_came_from(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", height=180, width=320, fps=25, sample_rate=44100, channels=2)
    info = json.loads(convert(item(path), PROFILES["pretrain"]).info)
    assert (info["name"], info["labels"], info["split"]) == ("dog/clip.mp4", ["dog"], "train")
    assert info["source"]["video"] == {"codec": "h264", "height": 180, "width": 320, "fps": 25.0}
    assert info["source"]["audio"] == {"codec": "aac", "sample_rate": 44100, "channels": 2}
    assert info["video"]["seconds"] == info["audio"]["seconds"] == 2.0


def truncated(tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def text(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no media at all\n" * 100)
    return path


def image(tmp_path):
    path = tmp_path / "image.mp4"
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.pix_fmt = "yuvj420p"
        container.mux([*stream.encode(av.VideoFrame(640, 480, "yuvj420p")), *stream.encode(None)])
    return path


def play_list(tmp_path):
    """A file that makes FFmpeg read another one."""
    write_clip(tmp_path / "clip.mp4")
    path = tmp_path / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile clip.mp4\n")
    return path


def empty(tmp_path):
    path = tmp_path / "empty.mp4"
    path.write_bytes(b"")
    return path


NO_MEDIA = "it is no media file, or one that has lost its begin or its end"
UNKNOWN_FORMAT = f"its format is not one of {', '.join(FORMATS)}"
BAD_FILES = {
    "truncated": (truncated, NO_MEDIA, "MediaError"),
    "text": (text, NO_MEDIA, "MediaError"),
    "image": (image, UNKNOWN_FORMAT, "MediaError"),
    "play list": (play_list, UNKNOWN_FORMAT, "MediaError"),
    "empty": (empty, "it is empty (0 bytes)", "MediaError"),
    "absent": (lambda folder: folder / "absent.mp4", "it cannot be read: No such file or directory", "FileNotFoundError"),
    "folder": (lambda folder: folder, "it cannot be read: Is a directory", "IsADirectoryError"),
    "silent": (lambda folder: write_clip(folder / "silent.mp4", sound=None), "it has no sound", "MissingStream"),
    "dark": (lambda folder: write_clip(folder / "dark.mp4", picture=None), "it has no pictures", "MissingStream"),
    "apart": (
        lambda folder: write_clip(folder / "apart.mkv", audio_start=9.0),
        "its sound and its pictures do not overlap in time",
        "MissingStream",
    ),
}


@pytest.mark.parametrize(("make", "reason", "error"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_fails_with_a_reason_in_words(tmp_path, make, reason, error):
    bad = item(make(tmp_path))
    assert convert(bad, PROFILES["pretrain"]) == Failure(bad.name, reason, error)
