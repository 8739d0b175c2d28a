import numpy as np
import torch

from xkd.eval.config import SupervisedConfig
from xkd.eval.supervised import correctness, global_views_only, train_classifiers
from xkd.features import Features, extract
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet


def test_both_nets_learn_the_labels_of_real_media(tiny_shards, architecture):
    shards, net = ShardSet.open(tiny_shards), architecture.build(seed=0)
    before = [parameter.clone() for parameter in net.parameters()]
    config = SupervisedConfig(epochs=25, batch_size=6, lr=5e-3)
    classifiers = train_classifiers(net, shards, architecture.data, config, seed=0)
    with Loader(shards, architecture.data, preset="eval", batch_size=12) as loader:
        nets = {"supervised": {modality: classifier.log_probabilities for modality, classifier in classifiers.items()}}
        correct = correctness(extract(loader, nets)["supervised"])
    assert {modality: clips.mean() for modality, clips in correct.items()} == {"video": 1.0, "audio": 1.0, "both": 1.0}
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_nets_that_share_blocks_are_trained_apart(tiny_shards, architecture):
    shared = architecture.model_copy(update={"model": architecture.model.model_copy(update={"sharing": "student"})})
    shards, config = ShardSet.open(tiny_shards), SupervisedConfig(epochs=3, batch_size=6)
    video, audio = train_classifiers(shared.build(seed=0), shards, shared.data, config, seed=0).values()
    assert not torch.equal(video.encoder.blocks[0].mlp.fc1.weight, audio.encoder.blocks[0].mlp.fc1.weight)


def test_both_follows_the_surer_classifier():
    unsure, sure = np.log([[[0.6, 0.4]]]), np.log([[[0.05, 0.95]]])
    correct = correctness(Features({"video": unsure, "audio": sure}, np.array([1]), ["clip"]))
    assert {modality: bool(clips[0]) for modality, clips in correct.items()} == {"video": False, "audio": True, "both": True}


def test_only_the_local_views_are_left_out(architecture):
    data = global_views_only(architecture.data)
    assert (data.video.local_view.count, data.audio.local_view.count) == (0, 0)
    assert data.video.global_view == architecture.data.video.global_view
    assert data.audio.global_view == architecture.data.audio.global_view
