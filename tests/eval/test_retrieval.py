import numpy as np
import torch
from torch import nn

from xkd.eval.config import RetrievalConfig
from xkd.eval.protocol import Trial
from xkd.eval.retrieval import run
from xkd.eval.tasks import TASKS
from xkd.features import Features


class Shift(nn.Module):
    """A head that makes all outputs alike but for what the features add, as a collapsed one does."""

    def forward(self, features):
        return features + 50


def found(noise, samples=40):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(samples, 1, 16))
    arrays = {name: (shared + noise * rng.normal(size=(samples, 3, 16))).astype(np.float32) for name in ("video", "audio")}
    test = Features(arrays, np.full(samples, -1), [f"clip-{i}" for i in range(samples)])
    return run(RetrievalConfig(), Trial(TASKS["audioset"], None, test, 527, {"video": Shift(), "audio": Shift()}, seed=0))


def test_what_agrees_is_found_at_once_in_both_directions():
    for direction in found(noise=0.05).values():
        assert direction["r1"]["mean"] == 1
        assert direction["median_place"] == 1


def test_what_has_nothing_in_common_is_found_by_chance():
    for direction in found(noise=100.0).values():
        assert direction["r1"]["mean"] < 0.15
        assert direction["r1"]["mean"] <= direction["r5"]["mean"] <= direction["r10"]["mean"] < 0.6


def test_recall_is_that_of_the_places_written_out():
    one = found(noise=1.5)["video to audio"]
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(40, 1, 16))
    video, audio = ((shared + 1.5 * rng.normal(size=(40, 3, 16))).astype(np.float32).mean(1) for _ in range(2))
    video, audio = (torch.from_numpy(rows + 50 - (rows + 50).mean(0)) for rows in (video, audio))
    similarity = torch.cosine_similarity(video[:, None], audio[None], dim=2)
    places = (similarity > similarity.diagonal()[:, None]).sum(1)
    for among in (1, 5, 10):
        assert one[f"r{among}"]["mean"] == (places < among).double().mean().item()
    assert 0 < one["r1"]["mean"] < 1
    assert one["median_place"] == places.double().quantile(0.5).item() + 1
