import dataclasses
import errno
import io
import json
import os
import subprocess
import sys

import av
import pytest

from tests.media import write_clip
from xkd.pipelines.convert.profiles import PROFILES, make_profile
from xkd.pipelines.convert.sample import STREAMS, Converted, Failure, UnreadableSource, convert, convert_all, find_absent
from xkd.pipelines.convert.sources.item import Item, Location
from xkd.pipelines.media.container import FORMATS
from xkd.pipelines.media.encode import AUDIO_CODECS, CODECS, decode_wav, decoded_shape


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


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("audio", AUDIO_CODECS)
def test_every_pair_of_codecs_gives_the_same_sample(tmp_path, codec, audio):
    sample = convert(item(write_clip(tmp_path / "clip.mp4", fps=25)), make_profile("pretrain", codec=codec, audio=audio))
    assert decoded_shape(sample.video) == (16, 128, 128)
    assert len(AUDIO_CODECS[audio].decode(sample.audio)[0]) == sample.audio_samples == 32000


@pytest.mark.parametrize(
    ("streams", "frames", "samples"),
    [("both", 16, 32000), ("video", 16, 0), ("audio", 0, 32768), ("video, sound optional", 16, 32000)],
)
def test_a_sample_has_the_streams_of_its_dataset(tmp_path, streams, frames, samples):
    sample = convert(item(write_clip(tmp_path / "clip.mp4")), PROFILES["pretrain"], streams)
    assert (sample.frames, sample.audio_samples) == (frames, samples)
    assert (sample.video is not None, sample.audio is not None) == (frames > 0, samples > 0)
    assert [name for name in ("video", "audio") if name in json.loads(sample.info)] == [
        name for name, count in (("video", frames), ("audio", samples)) if count
    ]


@pytest.mark.parametrize("streams", STREAMS)
def test_a_silent_film_is_a_sample_only_where_sound_may_be_missing(tmp_path, streams):
    sample = convert(item(write_clip(tmp_path / "clip.avi", video_codec="mpeg4", sound=None)), PROFILES["pretrain"], streams)
    if streams in ("both", "audio"):
        assert sample == Failure("dog/clip.avi", "it has no sound", "MissingStream")
    else:
        assert (sample.frames, sample.audio, sample.audio_samples, sample.audio_rate) == (16, None, 0, 0)


@pytest.mark.parametrize(("suffix", "codec"), [(".wav", "pcm_s16le"), (".flac", "flac"), (".mp3", "mp3"), (".m4a", "aac")])
def test_a_file_of_sound_alone_is_a_sample_where_sound_is_all_that_is_asked_for(tmp_path, suffix, codec):
    path = write_clip(tmp_path / f"clip{suffix}", picture=None, audio_codec=codec, sample_rate=44100)
    assert abs(convert(item(path), PROFILES["pretrain"], "audio").audio_samples - 32000) < 1300
    assert convert(item(path), PROFILES["pretrain"]).reason == "it has no pictures"


def test_a_clip_of_a_longer_file_is_as_long_as_its_time_range(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", seconds=6.0, fps=25)
    sample = convert(dataclasses.replace(item(path), time_range=(1.0, 3.5), roles=("train", "unused")), PROFILES["pretrain"])
    assert (sample.frames, sample.audio_samples) == (20, 40000)
    info = json.loads(sample.info)
    assert (info["time_range"], info["roles"]) == ([1.0, 3.5], ["train", "unused"])


@pytest.mark.parametrize(
    "name", ["new\nline.mp4", "übergröße 猫.mp4", "bad\udcff.mp4", "-dash.mp4", "wrong.avi", "wrong.txt", "concat:x"]
)
def test_a_name_is_no_obstacle(tmp_path, name):
    (tmp_path / name).symlink_to(write_clip(tmp_path / "clip.mp4"))
    sample = convert(item(tmp_path / name), PROFILES["pretrain"])
    assert sample.frames == 16
    assert json.loads(sample.info)["name"] == f"dog/{name}"


def test_an_error_of_a_library_is_a_failure_of_its_file_alone(tmp_path):
    class Broken:
        path = write_clip(tmp_path / "clip.mp4")

        def open(self):
            raise IndexError("list index\nout of range")

    failure = convert(dataclasses.replace(item(Broken.path), location=Broken()), PROFILES["pretrain"])
    assert failure == Failure("dog/clip.mp4", "it cannot be converted: list index out of range", "IndexError")


FORBIDDEN = """
import os, sys
from pathlib import Path
from xkd.pipelines.convert.profiles import PROFILES
from xkd.pipelines.convert.sample import convert
from xkd.pipelines.convert.sources.item import Item, Location
if os.getuid() == 0:
    os.setuid(65534)
print(convert(Item(Location(Path(sys.argv[1])), "clip.mp4", (), "train"), PROFILES["pretrain"]).reason)
"""


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    path.chmod(0)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    run = subprocess.run([sys.executable, "-c", FORBIDDEN, path], capture_output=True, text=True, check=False, env=environment)
    assert run.stdout == "it cannot be read: Permission denied\n", run.stderr


WITHOUT_FILES = """
import os, resource, sys
from pathlib import Path
from xkd.pipelines.convert.profiles import PROFILES
from xkd.pipelines.convert.sample import UnreadableSource, convert
from xkd.pipelines.convert.sources.item import Item, Location
clip = Item(Location(Path(sys.argv[1])), "clip.mp4", (), "train")
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    print(convert(clip, PROFILES["pretrain"]))
except UnreadableSource as error:
    print(error)
"""


def test_too_many_open_files_are_no_fault_of_the_file(tmp_path):
    path = write_clip(tmp_path / "clip.mp4")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    run = subprocess.run([sys.executable, "-c", WITHOUT_FILES, path], capture_output=True, text=True, check=False, env=environment)
    assert run.stdout == f"{path} cannot be read (Too many open files)\n", run.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that cannot be read")
def test_an_input_output_error_is_no_fault_of_the_file(tmp_path):
    (tmp_path / "clip.mp4").symlink_to("/proc/self/mem")
    with pytest.raises(UnreadableSource, match=r"clip.mp4 cannot be read \(Input/output error\)"):
        convert(item(tmp_path / "clip.mp4"), PROFILES["pretrain"])


def test_an_input_output_error_amid_a_file_is_no_fault_of_the_file(tmp_path):
    """The file's second half is on a disk that fails; FFmpeg calls our reader, and takes what goes wrong for an end."""

    class Failing(io.FileIO):
        def readinto(self, buffer):
            if self.tell() + len(buffer) > size // 2:
                raise OSError(errno.ESTALE, "Stale file handle")
            return super().readinto(buffer)

    class Half:
        path = write_clip(tmp_path / "clip.mkv", seconds=20.0, fps=25)

        def open(self):
            return io.BufferedReader(Failing(self.path))

    size = Half.path.stat().st_size
    with pytest.raises(UnreadableSource, match=r"cannot be read \(Stale file handle\)"):
        convert(dataclasses.replace(item(Half.path), location=Half()), PROFILES["pretrain"])


def test_want_of_memory_is_no_fault_of_the_file(tmp_path):
    class Large:
        path = write_clip(tmp_path / "clip.mp4")

        def open(self):
            raise av.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    with pytest.raises(MemoryError):
        convert(dataclasses.replace(item(Large.path), location=Large()), PROFILES["pretrain"])


def test_a_file_that_is_gone_since_the_run_began_is_no_failure(tmp_path):
    clips = [item(write_clip(tmp_path / "clip.mp4")), item(tmp_path / "link.mp4")]
    clips[1].location.path.symlink_to("clip.mp4")
    results = convert_all(clips, PROFILES["pretrain"], "both", workers=1)
    clips[0].location.path.unlink()
    with pytest.raises(
        UnreadableSource, match=r"clip.mp4 cannot be read \(it was there when the run began, and is gone now: No such"
    ):
        list(results)
    with pytest.raises(UnreadableSource, match="gone now"):
        convert(clips[1], PROFILES["pretrain"])


def test_items_are_converted_in_order_whatever_the_number_of_workers(tmp_path):
    items = [item(write_clip(tmp_path / f"{index}.mp4", seconds=0.5 + 0.25 * index)) for index in range(5)]
    items.insert(2, item(text(tmp_path)))
    one, three = (list(convert_all(items, PROFILES["pretrain"], "both", workers)) for workers in (1, 3))
    assert one == three
    assert [getattr(sample, "frames", None) for sample in one] == [4, 6, None, 8, 10, 12]


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


def dangling(tmp_path):
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nothing")
    return tmp_path / "dangling.mp4"


def loop(tmp_path):
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    return tmp_path / "loop.mp4"


def half_an_flv(tmp_path):
    """FFmpeg finds one more stream than there is at its end."""
    path = write_clip(tmp_path / "clip.flv", seconds=6.0, fps=25, gop=50, sample_rate=44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


NO_MEDIA = "it is no media file, or one that has lost its begin or its end"
UNKNOWN_FORMAT = f"its format is not one of {', '.join(FORMATS)}"
BAD_FILES = {
    "truncated": (truncated, NO_MEDIA, "MediaError"),
    "half an flv": (half_an_flv, "a stream begins in its midst, as in a file that has lost its end", "MediaError"),
    "text": (text, NO_MEDIA, "MediaError"),
    "image": (image, UNKNOWN_FORMAT, "MediaError"),
    "play list": (play_list, UNKNOWN_FORMAT, "MediaError"),
    "empty": (empty, "it is empty (0 bytes)", "MediaError"),
    "folder": (lambda folder: folder, "it cannot be read: Is a directory", "IsADirectoryError"),
    "silent": (lambda folder: write_clip(folder / "silent.mp4", sound=None), "it has no sound", "MissingStream"),
    "dark": (lambda folder: write_clip(folder / "dark.mp4", picture=None), "it has no pictures", "MissingStream"),
    "loop": (loop, "it cannot be read: Too many levels of symbolic links", "OSError"),
    "below a file": (lambda folder: text(folder) / "clip.mp4", "it cannot be read: Not a directory", "NotADirectoryError"),
    "long name": (lambda folder: folder / ("a" * 300), "it cannot be read: File name too long", "OSError"),
    "dangling": (dangling, "it cannot be read: No such file or directory", "FileNotFoundError"),
    "one frame": (
        lambda folder: write_clip(folder / "one.mp4", frame_times=[0.0]),
        "its video holds only one frame",
        "MediaError",
    ),
    "short sound": (
        lambda folder: write_clip(folder / "short.mkv", seconds=0.2, fps=25, audio_codec="pcm_s16le"),
        "its sound lasts 0.20 s, less than 0.25 s",
        "MediaError",
    ),
    "apart": (
        lambda folder: write_clip(folder / "apart.mkv", audio_start=9.0),
        "its sound and its pictures do not overlap in time",
        "MissingStream",
    ),
}


@pytest.mark.parametrize(("make", "reason", "error"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_fails_with_a_reason_in_words(tmp_path, make, reason, error):
    bad = item(make(tmp_path))
    assert convert(bad, PROFILES["pretrain"], absent=find_absent([bad])) == Failure(bad.name, reason, error)
