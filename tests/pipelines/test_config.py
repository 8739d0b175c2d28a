import pytest
from pydantic import ValidationError

from xkd.pipelines.config import DataConfig

DEMO = {
    "clip_seconds": 2.0,
    "video": {"fps": 4, "global_view": {"size": 48}, "local_view": {"frames": 4, "size": 36}},
    "audio": {"hop": 286, "local_view": {"seconds": 1.14}},
}


def test_the_defaults_are_the_method_s_geometry():
    config = DataConfig(train="shards")
    assert config.video_shape == (3, 32, 112, 112)
    assert config.local_video_shape == (3, 8, 96, 96)
    assert config.audio_shape == (1, 80, 448)
    assert config.local_audio_shape == (1, 80, 112)


def test_shapes_follow_from_the_fields():
    config = DataConfig(train="shards", **DEMO)
    assert config.video_shape == (3, 8, 48, 48)
    assert config.local_video_shape == (3, 4, 36, 36)
    assert config.audio_shape == (1, 80, 112)
    assert config.local_audio_shape == (1, 80, 64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clip_secs": 2}, "clip_secs"),
        ({"video": {"global_view": {"blurr": 0.5}}}, "blurr"),
        ({"video": {"global_view": {"scale": [0.5, 0.2]}}}, r"video\.global_view\.scale\n.* not in order"),
        ({"video": {"global_view": {"scale": [0.0, 1.0]}}}, "greater than 0"),
        ({"video": {"local_view": {"flip": 1.5}}}, "less than or equal to 1"),
        ({"video": {"std": [0.2, 0.0, 0.2]}}, "greater than 0"),
        ({"clip_seconds": 2.1}, "16.8 frames"),
        ({"video": {"local_view": {"frames": 33}}}, "more than the 32 frames"),
        ({"audio": {"local_view": {"seconds": 5}}}, "more than clip_seconds"),
        ({"audio": {"high_hz": 9000}}, "sample_rate / 2 = 8000"),
        ({"audio": {"low_hz": 8000}}, "low_hz < high_hz"),
        ({"aligned_locals": True, "video": {"local_view": {"count": 0}}}, "needs local video views"),
        ({"crop_from": "middle"}, "'source' or 'resized'"),
        ({"eval_crops": 2}, "1 or 3"),
        ({"video": {"global_view": {"rand_augment": {"magnitude": 11}}}}, "less than or equal to 10"),
        ({"audio": {"global_view": {"freq_masks": 1, "freq_mask_width": 81}}}, r"global_view.freq_mask_width 81 .* 80 at most"),
        ({"audio": {"local_view": {"time_masks": 1, "time_mask_width": 113}}}, r"local_view.time_mask_width 113 .* 112 at most"),
        ({"audio": {"global_view": {"time_warp": 224}}}, r"time_warp 224 .* 80 x 448: 223 at most"),
    ],
)
def test_a_wrong_field_is_refused_and_named(fields, message):
    with pytest.raises(ValidationError, match=message):
        DataConfig(train="shards", **fields)


def test_local_lengths_do_not_matter_without_local_views():
    none = {"count": 0}
    config = DataConfig(train="shards", clip_seconds=0.5, video={"local_view": none}, audio={"local_view": none})
    assert config.num_frames == 4


def test_fewer_batches_ahead_than_pipelines_are_refused():
    with pytest.raises(ValidationError, match=r"prefetch 2 keeps only 2 of 3 pipelines at work: set prefetch to 3 or more"):
        DataConfig(train="unused", pipelines=3)
    assert DataConfig(train="unused", pipelines=3, prefetch=3).pipelines == 3
