import io
from dataclasses import replace

import av
import numpy as np
import pytest

from tests.media import write_clip
from xkd.pipelines.config import DataConfig
from xkd.pipelines.convert.sources import DATASETS, Dataset
from xkd.pipelines.convert.sources.folder import list_folder
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.samples.source import Source, check_sample_rate, frame_stride, long_enough
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.read import open_and_pread, read_audio, read_video
from xkd.pipelines.views.example import BOTH
from xkd.pipelines.views.presets import PRESETS

STREAM_INPUTS = {"video": ("video", "frames"), "audio": ("audio", "pcm")}


def configuration(clip_seconds=2.0, fps=4, **audio) -> DataConfig:
    return DataConfig(
        train="unused",
        clip_seconds=clip_seconds,
        video={"fps": fps, "local_view": {"count": 0}},
        audio={"local_view": {"count": 0}} | audio,
    )


def source(shards, config, preset="pretrain", streams=BOTH) -> Source:
    row = PRESETS[preset]
    return Source(shards, row.narrow(config, streams), row, seed=0)


def packets(video) -> list[bytes]:
    with av.open(io.BytesIO(video.tobytes())) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def stored_numbers(sample, inputs) -> np.ndarray:
    """What the sample's file calls the frames that the graph is told to decode of the part it is fed."""
    return packets(read_video(sample)).index(packets(inputs["video"])[0]) + inputs["frames"]


@pytest.mark.parametrize(("start", "first_frame"), [(0, 0), (1999, 0), (2000, 1), (5000, 2), (32000, 16)])
def test_picture_and_sound_start_together(shards, start, first_frame):
    fixed = replace(PRESETS["pretrain"], starts=lambda *purpose: [start])
    inputs = Source(shards, fixed.narrow(configuration(clip_seconds=0.5, fps=8)), fixed, 0)(0, 3).inputs
    assert stored_numbers(shards.sample(3), inputs).tolist() == [first_frame + k for k in range(4)]
    assert np.array_equal(inputs["pcm"], read_audio(shards.sample(3), start, 8000))


def test_clips_start_all_over_the_sample(shards):
    config = configuration(clip_seconds=0.5, fps=8)
    made = [source(shards, config)(epoch, 0) for epoch in range(200)]
    firsts = {int(stored_numbers(example.sample, example.inputs)[0]) for example in made}
    assert firsts == set(range(16))  # 20 stored frames, 4 a clip; the 17th place is one audio sample long


def test_frames_are_a_stride_apart(shards):
    assert np.array_equal(np.diff(source(shards, configuration())(0, 0).inputs["frames"]), [2] * 7)


def test_a_short_clip_starts_again_and_ends_in_silence(shards):
    inputs = source(shards, configuration(clip_seconds=4.0, fps=8))(0, 0).inputs
    sample = shards.sample(0)
    assert np.array_equal(inputs["frames"], np.arange(32) % sample.video.frames)
    assert np.array_equal(inputs["pcm"][: sample.audio.samples], read_audio(sample, 0, sample.audio.samples))
    assert not inputs["pcm"][sample.audio.samples :].any()
    assert len(inputs["pcm"]) == 64000


def test_evaluation_takes_the_middle(shards):
    inputs = source(shards, configuration(), preset="eval")(0, 0).inputs
    assert inputs["frames"][0] == 2  # 2.5 s stored, 2 s taken: a quarter of a second in
    assert np.array_equal(inputs["pcm"], read_audio(shards.sample(0), 4000, 32000))


def test_examples_do_not_depend_on_what_was_made_before(shards):
    config = configuration()
    used = source(shards, config)
    for sample in (5, 3, 1):
        used(1, sample)
    first, second = used(0, 2), source(shards, config)(0, 2)
    assert first.sample == second.sample
    assert all(np.array_equal(first.inputs[name], second.inputs[name]) for name in second.inputs)


@pytest.mark.parametrize("fps", [3, 5, 16, 8.5])
def test_a_rate_that_is_no_whole_part_of_the_stored_one_is_refused(shards, fps):
    with pytest.raises(ValueError, match=f"video.fps {fps}.*stores 8 frames"):
        frame_stride(shards, configuration(fps=fps))


def test_another_sample_rate_is_refused(shards):
    with pytest.raises(ValueError, match=r"audio.sample_rate 22050.*stores 16000"):
        check_sample_rate(shards, configuration(sample_rate=22050))


def test_short_samples_are_found(shards):
    assert len(long_enough(shards, 2.0)) == len(shards)
    assert len(long_enough(shards, 2.6)) == 0


@pytest.fixture(scope="module")
def partly_silent(tmp_path_factory):
    """Shards of two clips, one of which has no sound."""
    root = tmp_path_factory.mktemp("partly silent")
    write_clip(root / "media" / "a" / "loud.mp4")
    write_clip(root / "media" / "a" / "silent.mp4", sound=None)
    return root / "media"


def write_with_streams(source, out, streams, **choices):
    """Write shards as for a data set with these streams."""
    row = Dataset(list_folder, streams=streams)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "some", row)
        write_shards(source, out, dataset="some", split="train", workers=1, **choices)
    return ShardSet.open(out)


def test_samples_that_lack_a_stream_are_left_out_where_it_is_asked_for(partly_silent, tmp_path):
    shards = write_with_streams(partly_silent, tmp_path, "video, sound optional")
    assert len(shards) == 2
    (index,) = long_enough(shards, 0.0)
    assert shards.sample(index).key.startswith("loud")
    assert source(shards, configuration())(0, index).inputs["pcm"].any()
    assert long_enough(shards, 0.0, ("video",)).tolist() == [0, 1]
    assert source(shards, configuration(), streams=("video",))(0, 1 - index).inputs["frames"].any()


@pytest.mark.parametrize(("stream", "lacks"), [("video", "sound"), ("audio", "video")])
def test_a_set_of_one_stream_gives_it_and_no_other(media_folder, shards, tmp_path, stream, lacks):
    alone = write_with_streams(media_folder, tmp_path, stream)
    needs = "needs video and sound: give it other shards"
    with pytest.raises(ValueError, match=f"{tmp_path}: holds no {lacks}; what loads it {needs}"):
        source(alone, configuration())
    other = {"video": "audio", "audio": "video"}[stream]
    with pytest.raises(ValueError, match=f"holds no {lacks}; what loads it needs {lacks}"):
        source(alone, configuration(), streams=(other,))
    row = replace(PRESETS["pretrain"], starts=lambda *purpose: [2000])
    inputs = Source(alone, row.narrow(configuration(fps=8), (stream,)), row, 0)(0, 0).inputs
    both = Source(shards, row.narrow(configuration(fps=8)), row, 0)(0, 0).inputs
    assert inputs.keys() == {name for name in both if name.startswith(STREAM_INPUTS[stream])}
    if stream == "video":
        assert stored_numbers(alone.sample(0), inputs).tolist() == list(range(1, 17))
    else:
        assert np.array_equal(inputs["pcm"], read_audio(alone.sample(0), 2000, 32000))


def test_a_stream_that_is_not_asked_for_is_not_read(shards):
    for stream, other in (("video", "audio"), ("audio", "video")):
        reads = []

        def pread(path, offset, size, reads=reads):
            reads.append((offset, offset + size))
            return open_and_pread(path, offset, size)

        row = PRESETS["pretrain"]
        Source(shards, row.narrow(configuration(), (stream,)), row, 0, pread)(0, 3)
        entry = getattr(shards.sample(3), other)
        assert len(reads) == 1
        assert all(end <= entry.offset or begin >= entry.offset + entry.size for begin, end in reads)


def test_flac_and_pcm16_are_heard_alike(media_folder, shards, tmp_path):
    flac = write_with_streams(media_folder, tmp_path, "both", audio="flac")
    ids = {shards.sample(index).key: index for index in range(len(shards))}
    config = configuration(clip_seconds=1.0).model_copy(update={"train_clips": 3})
    for index in range(len(flac)):
        place = ids[flac.sample(index).key]
        for preset, streams in (("pretrain", BOTH), ("svm", BOTH), ("svm", ("audio",))):
            found = source(flac, config, preset, streams=streams)(0, index, drawn_for=5).inputs["pcm"]
            assert np.array_equal(found, source(shards, config, preset, streams=streams)(0, place, drawn_for=5).inputs["pcm"])
            assert found.any()


def test_several_clips_are_those_that_start_where_each_does(shards):
    row = replace(PRESETS["svm"], starts=lambda *purpose: [8000, 0, 4000])
    config = configuration(clip_seconds=0.5, fps=8).model_copy(update={"train_clips": 3})
    inputs = Source(shards, row.narrow(config), row, 0)(0, 3).inputs
    assert stored_numbers(shards.sample(3), inputs).tolist() == [*range(4, 8), *range(4), *range(2, 6)]
    expected = [read_audio(shards.sample(3), start, 8000) for start in (8000, 0, 4000)]
    assert np.array_equal(inputs["pcm"], np.concatenate(expected))


def test_a_sample_that_stands_in_for_another_takes_its_draws(shards):
    made = source(shards, configuration(clip_seconds=0.5, fps=8))
    one, another = [index for index in range(12) if shards.sample(index).video.width == shards.sample(0).video.width][:2]
    own, other, drawn = made(0, one), made(0, one, drawn_for=another), made(0, another)
    assert other.sample == own.sample
    assert set(packets(other.inputs["video"])) <= set(packets(read_video(own.sample)))
    assert np.array_equal(stored_numbers(other.sample, other.inputs), stored_numbers(drawn.sample, drawn.inputs))
    for name in ("video_global0.roi_start", "audio_global0.volume"):
        assert np.array_equal(other.inputs[name], drawn.inputs[name])
        assert not np.array_equal(other.inputs[name], own.inputs[name])
