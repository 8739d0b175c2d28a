import numpy as np
import pytest
import torch

from xkd.eval.config import KnnConfig
from xkd.eval.knn import run, votes
from xkd.eval.protocol import Trial
from xkd.eval.tasks import TASKS
from xkd.features import Features


def clips(samples, seed, signal, views=2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=samples)
    arrays = {name: rng.normal(size=(samples, views, 8)).astype(np.float32) for name in ("video", "audio")}
    arrays["video"] += signal * np.eye(8, dtype=np.float32)[labels][:, None]
    return Features(arrays, labels, [f"clip-{i}" for i in range(samples)])


def trial(signal=2.0, train=80, test=50):
    return Trial(TASKS["avdigits"], clips(train, 0, signal), clips(test, 1, signal), 4, {}, seed=0)


@pytest.mark.parametrize("neighbours", [1, 7, 500])
def test_the_vote_is_that_of_the_nearest_training_samples_written_out(neighbours):
    one = trial()
    train, test = (torch.from_numpy(features.mean("video")) for features in (one.train, one.test))
    found = votes(one, "video", neighbours)
    for row, clip in enumerate(test):
        similarity = torch.cosine_similarity(clip[None], train, dim=1)
        expected = np.zeros(4)
        for nearest in similarity.argsort(descending=True)[:neighbours].tolist():
            expected[one.train.labels[nearest]] += np.exp(similarity[nearest].item() / 0.07)
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-6)


def test_separable_classes_are_found_and_noise_stays_at_chance():
    found = run(KnnConfig(), trial(signal=6.0))
    assert found["video"]["top1"]["mean"] > 0.95
    assert found["audio"]["top1"]["mean"] < 0.5
    assert found["both"]["top1"]["mean"] > found["audio"]["top1"]["mean"]
    assert "20 nearest" in found["video"]["note"]


def test_the_length_of_a_feature_does_not_matter():
    one = trial()
    longer = {name: 100 * array if name == "audio" else array for name, array in one.train.arrays.items()}
    other = Trial(one.task, Features(longer, one.train.labels, one.train.keys), one.test, 4, {}, seed=0)
    np.testing.assert_allclose(votes(one, "both", 5), votes(other, "both", 5), rtol=1e-4)
