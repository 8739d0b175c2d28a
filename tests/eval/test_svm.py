import numpy as np
import pytest

from xkd.eval.config import SvmConfig
from xkd.eval.protocol import Trial
from xkd.eval.svm import evaluate_svm, run
from xkd.eval.tasks import TASKS
from xkd.features import Features

CONFIG = SvmConfig(c=(0.01, 1.0), folds=3)


def clips(num_clips, seed, video_signal=0.0, audio_signal=0.0, scale=1.0):
    """Features of four classes: noise, plus one-hot class directions of the given strengths."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=num_clips)
    noise = {modality: rng.normal(size=(num_clips, 6)) for modality in ("video", "audio")}
    one_hot = np.eye(6)[labels]
    arrays = {"video": scale * (noise["video"] + video_signal * one_hot), "audio": noise["audio"] + audio_signal * one_hot}
    return Features(
        {modality: array[:, None] for modality, array in arrays.items()}, labels, [f"clip-{i}" for i in range(num_clips)]
    )


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
    assert result.accuracy_by_c[result.c] == max(result.accuracy_by_c.values())
    assert set(result.accuracy_by_c) == set(CONFIG.c)


def test_unusable_settings_are_refused():
    for settings in ({"c": ()}, {"c": (0.0,)}, {"folds": 1}, {"C": (1.0,)}):
        with pytest.raises(ValueError):
            SvmConfig(**settings)


def test_a_modality_of_many_noise_columns_does_not_drown_the_other():
    def padded(features):
        noise = np.random.default_rng(len(features.labels)).normal(size=(len(features.labels), 1, 300))
        return Features({**features.arrays, "video": noise}, features.labels, features.keys)

    results = evaluate_svm(padded(clips(300, 0, audio_signal=2.0)), padded(clips(200, 1, audio_signal=2.0)), CONFIG, seed=0)
    assert accuracy(results["both"]) > 0.9 * accuracy(results["audio"])


def views(num_clips, seed, signal, num_views):
    """Video features of several views a sample: what they share of the class, and noise of each view's own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=num_clips)
    array = signal * np.eye(6)[labels][:, None] + rng.normal(size=(num_clips, num_views, 6))
    return Features({"video": array}, labels, [f"clip-{i}" for i in range(num_clips)])


@pytest.mark.parametrize("scaling", ["standard", "unit", "none"])
def test_the_mean_decision_over_the_views_of_a_test_sample_counts(scaling):
    train, test = views(200, 0, 1.5, 3), views(100, 1, 1.5, 4)
    config = SvmConfig(c=(0.1,), folds=3, scaling=scaling)
    several = evaluate_svm(train, test, config, seed=0)["video"]
    singles = [
        evaluate_svm(train, Features({"video": test.arrays["video"][:, [view]]}, test.labels, test.keys), config, seed=0)["video"]
        for view in range(4)
    ]
    np.testing.assert_allclose(several.scores, np.mean([single.scores for single in singles], axis=0), atol=1e-9)
    assert accuracy(several) > np.mean([accuracy(single) for single in singles])


def test_every_view_of_a_training_sample_is_a_row():
    train = views(60, 0, 1.0, 5)
    labels, keys = np.repeat(train.labels, 5), [f"row-{row}" for row in range(300)]
    spread = Features({"video": train.arrays["video"].reshape(300, 1, 6)}, labels, keys)
    test, config = views(50, 1, 1.0, 1), SvmConfig(c=(1.0,), folds=3)
    one, other = (evaluate_svm(rows, test, config, seed=0)["video"] for rows in (train, spread))
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-9)


def test_what_is_of_one_recording_is_never_on_both_sides_of_a_cross_validation():
    """Every recording is unlike all others, whatever its class: only who has seen it can name its class."""
    rng = np.random.default_rng(0)
    labels, own = np.arange(60) % 2, 8 * rng.normal(size=(60, 1, 80))
    train = Features({"video": own + 0.1 * rng.normal(size=(60, 4, 80))}, labels, [f"clip-{i}" for i in range(60)])
    config = SvmConfig(c=(1.0,), folds=5)
    views_held_out = evaluate_svm(train, train, config, seed=0)["video"]
    assert views_held_out.accuracy_by_c[1.0] < 0.7
    assert accuracy(views_held_out) == 1
    twins = Features({"video": np.repeat(train.arrays["video"][::2], 2, axis=0)}, np.arange(60) // 2 % 2, train.keys)
    recordings = [f"recording-{i // 2}" for i in range(60)]
    assert evaluate_svm(twins, twins, config, seed=0)["video"].accuracy_by_c[1.0] > 0.8
    assert evaluate_svm(twins, twins, config, seed=0, recordings=recordings)["video"].accuracy_by_c[1.0] < 0.7


def test_the_rule_of_the_release_takes_the_best_c_of_the_test_split_and_says_so():
    train, test = views(80, 0, 0.8, 2), views(300, 1, 0.8, 2)
    grid = (1e-5, 1e-3, 0.1, 10.0)
    singles = {c: accuracy(evaluate_svm(train, test, SvmConfig(c=(c,), folds=3), seed=0)["video"]) for c in grid}
    release = SvmConfig(c=grid, svm_c="release")
    result = evaluate_svm(train, test, release, seed=0)["video"]
    assert result.accuracy_by_c == pytest.approx(singles)
    assert accuracy(result) == max(singles.values())
    record = run(release, Trial(TASKS["folder"], train, test, 4, {}, seed=0))["video"]
    assert record["note"] == f"C = {result.c:g}, THE BEST ON THE TEST SPLIT, as in the authors' release"


def test_a_class_that_the_training_split_lacks_is_never_named():
    train, test = views(100, 0, 3.0, 1), views(100, 1, 3.0, 1)
    kept = np.flatnonzero(train.labels != 2)
    part = Features({"video": train.arrays["video"][kept]}, train.labels[kept], [train.keys[row] for row in kept])
    result = evaluate_svm(part, test, CONFIG, seed=0, num_classes=5)["video"]
    assert result.scores.shape == (100, 5)
    assert not np.isin(result.predictions, [2, 4]).any()


def test_two_classes_are_scored_like_more():
    train, test = (Features(f.arrays, f.labels % 2, f.keys) for f in (views(200, 0, 4.0, 1), views(100, 1, 4.0, 1)))
    result = evaluate_svm(train, test, CONFIG, seed=0)["video"]
    assert result.scores.shape == (100, 2)
    assert accuracy(result) > 0.8


def test_unit_scaling_takes_the_length_from_every_clip():
    train, test = views(100, 0, 2.0, 2), views(60, 1, 2.0, 2)
    lengths = np.random.default_rng(5).uniform(0.1, 50, size=(60, 2, 1))
    longer = Features({"video": test.arrays["video"] * lengths}, test.labels, test.keys)
    config = SvmConfig(c=(1.0,), folds=3, scaling="unit")
    one, other = (evaluate_svm(train, split, config, seed=0)["video"].scores for split in (test, longer))
    np.testing.assert_allclose(one, other, atol=1e-9)
