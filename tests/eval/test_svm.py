import numpy as np
import pytest

from xkd.eval.config import SvmConfig
from xkd.eval.svm import evaluate_svm
from xkd.features import Features

CONFIG = SvmConfig(c=(0.01, 1.0), folds=3)


def clips(num_clips, seed, video_signal=0.0, audio_signal=0.0, scale=1.0):
    """Features of four classes: noise, plus one-hot class directions of the given strengths."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=num_clips)
    noise = {modality: rng.normal(size=(num_clips, 6)) for modality in ("video", "audio")}
    one_hot = np.eye(6)[labels]
    arrays = {"video": scale * (noise["video"] + video_signal * one_hot), "audio": noise["audio"] + audio_signal * one_hot}
    return Features(arrays, labels, [f"clip-{i}" for i in range(num_clips)])


def accuracy(result):
    return result.correct.mean()


def test_separable_classes_are_found_and_noise_stays_at_chance():
    results = evaluate_svm(clips(300, 0, video_signal=9.0), clips(300, 1, video_signal=9.0), CONFIG, seed=0)
    assert accuracy(results["video"]) > 0.99
    assert accuracy(results["audio"]) < 0.4


def test_both_uses_either_modality():
    results = evaluate_svm(clips(400, 0, 2.0, 2.0), clips(400, 1, 2.0, 2.0), CONFIG, seed=0)
    assert accuracy(results["both"]) > max(accuracy(results["video"]), accuracy(results["audio"])) + 0.03


def test_the_unit_of_a_modality_does_not_matter():
    def run(scale):
        train, test = (clips(200, seed, 1.0, 1.0, scale) for seed in (0, 1))
        return evaluate_svm(train, test, CONFIG, seed=0)["both"].predictions

    np.testing.assert_array_equal(run(1.0), run(1000.0))


def test_the_test_labels_do_not_influence_the_fit():
    train, test = clips(200, 0, 1.0), clips(100, 1, 1.0)
    relabelled = Features(test.arrays, (test.labels + 1) % 4, test.keys)
    one, other = (evaluate_svm(train, split, CONFIG, seed=0)["video"] for split in (test, relabelled))
    np.testing.assert_array_equal(one.predictions, other.predictions)
    assert one.c == other.c


def test_the_chosen_c_is_the_one_that_cross_validation_scores_best():
    result = evaluate_svm(clips(200, 0, 1.0), clips(50, 1, 1.0), CONFIG, seed=0)["video"]
    assert result.cv_accuracy[result.c] == max(result.cv_accuracy.values())
    assert set(result.cv_accuracy) == set(CONFIG.c)


def test_unusable_settings_are_refused():
    for settings in ({"c": ()}, {"c": (0.0,)}, {"folds": 1}, {"C": (1.0,)}):
        with pytest.raises(ValueError):
            SvmConfig(**settings)


def test_a_modality_of_many_noise_columns_does_not_drown_the_other():
    def padded(features):
        noise = np.random.default_rng(len(features.labels)).normal(size=(len(features.labels), 300))
        return Features({**features.arrays, "video": noise}, features.labels, features.keys)

    results = evaluate_svm(padded(clips(300, 0, audio_signal=2.0)), padded(clips(200, 1, audio_signal=2.0)), CONFIG, seed=0)
    assert accuracy(results["both"]) > 0.9 * accuracy(results["audio"])
