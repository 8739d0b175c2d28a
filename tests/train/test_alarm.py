"""What rings the alarm for a collapse, and what does not."""

import math

import pytest

from xkd.config import ConfigError, load
from xkd.train.alarm import CollapseAlarm
from xkd.train.config import PretrainConfig
from xkd.train.log_config import CollapseConfig

OUTPUTS = 512
HEALTHY = {
    f"{name}_{modality}": value
    for modality in ("video", "audio")
    for name, value in (("feature_std", 0.4), ("teacher_entropy", 3.0))
}
# Outputs, deviation, entropy: of the base network untrained, on noise (8192 outputs), and of lines of two healthy demos.
STARTS = [(8192, 0.6, 0.54), (8192, 0.78, 1.3), (OUTPUTS, 0.092, 0.877), (OUTPUTS, 0.46, 0.24), (OUTPUTS, 0.35, 5.475)]


def alarm(**fields):
    clips, outputs = fields.pop("clips", 16), fields.pop("outputs", OUTPUTS)
    return CollapseAlarm(CollapseConfig(**fields), num_outputs=outputs, clips=clips)


def warnings(watch, rows):
    return [watch.look(row) for row in rows]


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("feature_std_audio", 0.002, ("below 0.01 (log.collapse.feature_std)", "the audio student", "loss.weights.recon")),
        (
            "teacher_entropy_video",
            0.01,
            ("below 0.0624 (log.collapse.min_entropy)", "the audio student", "a higher loss.video.teacher"),
        ),
        (
            "teacher_entropy_audio",
            6.2,
            ("above 6.11 (log.collapse.max_entropy)", "the video student", "a lower loss.audio.teacher"),
        ),
    ],
)
def test_a_symptom_in_enough_rows_is_told_once_by_name_meaning_and_remedy(metric, value, words):
    watch = alarm(lines=3)
    told = warnings(watch, [HEALTHY | {metric: value}] * 6)
    assert [len(some) for some in told] == [0, 0, 1, 0, 0, 0]
    (warning,) = told[2]
    assert warning.startswith(f"collapse alarm: {metric} is {value:.3g}, {words[0]} for 3 log lines: ")
    assert all(part in warning for part in words[1:])
    assert watch.ringing == 1


def test_a_row_without_the_symptom_starts_the_count_again_and_ends_the_alarm():
    watch, ill = alarm(lines=2), HEALTHY | {"feature_std_video": 0.0}
    told = warnings(watch, [ill, HEALTHY, ill, ill, HEALTHY])
    assert [len(some) for some in told] == [0, 0, 0, 1, 0]
    assert watch.ringing == 0
    assert [len(some) for some in warnings(watch, [ill, ill])] == [0, 1]


def test_each_modality_rings_for_itself():
    watch = alarm(lines=1)
    assert len(watch.look(HEALTHY | {"feature_std_video": 0.0, "feature_std_audio": 0.0, "teacher_entropy_video": 6.23})) == 3
    assert watch.ringing == 3


@pytest.mark.parametrize(("outputs", "feature_std", "entropy"), STARTS)
def test_a_healthy_run_does_not_ring(outputs, feature_std, entropy):
    row = {
        f"{name}_{modality}": value
        for modality in ("video", "audio")
        for name, value in (("feature_std", feature_std), ("teacher_entropy", entropy))
    }
    assert warnings(alarm(lines=1, outputs=outputs), [row] * 3) == [[], [], []]


def test_what_is_not_computed_or_not_a_number_does_not_ring():
    assert alarm(lines=1).look({}) == []
    assert alarm(lines=1).look(dict.fromkeys(HEALTHY, math.nan)) == []


def test_one_clip_a_rank_has_no_deviation_to_watch():
    row = HEALTHY | {"feature_std_video": 0.0, "feature_std_audio": 0.0}
    assert alarm(lines=1, clips=1).look(row) == []
    assert len(alarm(lines=1, clips=2).look(row)) == 2


def test_bounds_that_leave_nothing_between_them_are_refused():
    with pytest.raises(ConfigError, match=r"log\.collapse\.min_entropy: 0\.99 is not below max_entropy"):
        load("configs/pretrain/demo.yaml", ["log.collapse.min_entropy=0.99"], {"pretrain": PretrainConfig})
