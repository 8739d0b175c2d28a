import gc
from functools import partial

import psutil
import pytest

from tests.media import moving_bar, write_clip
from xkd.benchmarks.convert import FFMPEG, NEEDS, PROVIDERS, Work, main, setup, soak, staged, write_source
from xkd.benchmarks.harness import measure
from xkd.benchmarks.needs import NOTHING
from xkd.benchmarks.peers import ffmpeg
from xkd.benchmarks.results import read_csv
from xkd.pipelines.convert.sample import convert
from xkd.pipelines.media.encode import AUDIO_CODECS, decoded_shape

ABLE = [name for name in PROVIDERS if NEEDS.get(name, NOTHING).missing() is None]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    return write_clip(path, picture=moving_bar((200, 30, 30)), seconds=1, fps=25, sample_rate=44100)


def test_every_provider_does_its_rounds(source):
    found = measure(partial(setup, Work(source, clips=2)), ABLE, rounds=1, warmup=0)
    assert [(row.provider, row.items) for row in found if row.part == "total"] == [(name, 2) for name in ABLE]


@pytest.mark.skipif(FFMPEG not in ABLE, reason="there is no program ffmpeg")
@pytest.mark.parametrize("form", [("pretrain", "vp9", "pcm16"), ("finetune", "h264", "flac"), ("pretrain", "mjpeg", "pcm16")])
def test_ffmpeg_writes_pictures_and_sound_of_the_converters_size_and_rate(source, form, tmp_path):
    work = Work(source, *form)
    whole = convert(work.item, work.profile)
    video, audio = ffmpeg.convert(source, work.profile, (whole.height, whole.width), tmp_path)
    assert decoded_shape(video.read_bytes()) == (whole.frames, whole.height, whole.width)
    samples, rate = AUDIO_CODECS[work.audio].decode(audio.read_bytes())
    assert rate == whole.audio_rate
    assert abs(len(samples) - whole.audio_samples) < rate / 10


@pytest.mark.parametrize("form", [("pretrain", "vp9", "pcm16"), ("finetune", "h264", "flac")])
def test_the_stages_make_the_members_that_the_converter_makes(source, form):
    work, laps = Work(source, *form), []
    video, audio = staged(work, laps.append)
    whole = convert(work.item, work.profile)
    assert f"to {form[0]} {form[1]} {len(video) / 1000:.0f} kB + {form[2]} {len(audio) / 1000:.0f} kB" in work.case
    assert (video, audio) == (whole.video, whole.audio)
    assert laps == ["pictures", "encode", "sound", "verify"]


def test_a_soak_says_the_memory_of_the_worker_in_stretches_that_cover_all_clips(source):
    rows = list(soak(Work(source), 25))
    assert sum(row.items for row in rows) == 25
    assert rows[-1].part == "clips 25-25"
    assert all(20 < row.peak_mib < 2000 for row in rows)
    assert sum(row.cpu_s for row in rows) > 0


@pytest.mark.long
def test_the_command_converts_the_common_form_of_downloaded_clips(tmp_path):
    source = write_source(tmp_path / "clip.mp4")
    options = ["--source", str(source), "--clips", "1", "--rounds", "1", "--csv", str(tmp_path / "rows.csv")]
    assert main(options) == 0
    assert {row["provider"] for row in read_csv(tmp_path / "rows.csv")} == set(PROVIDERS)
    whole = convert(Work(source).item, Work(source).profile)
    assert (whole.frames, whole.height, whole.width, whole.audio_samples) == (80, 128, 176, 160000)


def test_a_conversion_leaves_no_frame_behind(tmp_path):
    """With the garbage collector off: PyAV's frames count for little there, so it would run long after memory is full of them."""
    work = Work(write_clip(tmp_path / "large.mp4", picture=moving_bar((30, 30, 200)), seconds=3, fps=25, height=480, width=640))
    gc.disable()
    try:
        for _ in range(3):
            convert(work.item, work.profile)
        before = psutil.Process().memory_info().rss
        for _ in range(6):
            convert(work.item, work.profile)
        grown = psutil.Process().memory_info().rss - before
    finally:
        gc.enable()
    one_clip = 75 * 640 * 480 * 3 // 2  # of decoded frames, in bytes
    assert grown < one_clip


@pytest.mark.soak
def test_the_memory_of_a_worker_is_flat_over_a_thousand_clips(tmp_path):
    peaks = [row.peak_mib for row in soak(Work(write_source(tmp_path / "clip.mp4")), 1000)]
    assert max(peaks) < 500
    assert max(peaks[5:]) < 1.05 * max(peaks[:5])
