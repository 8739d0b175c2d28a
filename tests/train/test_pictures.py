"""Pictures that a run draws of its own net: they are there, cost training nothing but time, and end no run."""

import copy
from itertools import islice

import numpy as np
import pytest
import torch

from tests import runs
from xkd.config import load
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place
from xkd.train.pictures import Pictures
from xkd.train.pretraining import PretrainJob

ONLY, SECOND = Place(0, 0, 1), Place(1, 1, 2)


@pytest.fixture
def config(pretrain_settings, tmp_path):
    path = runs.write_settings(tmp_path / "pretrain.yaml", pretrain_settings)
    return load(path, ["log.pictures_every_epochs=2"], {"pretrain": PretrainConfig})


@pytest.fixture
def net(config):
    return XKD(config.model, config.loss, **config.data.view_shapes, seed=1)


@pytest.fixture
def batches(config, tiny_shards):
    """The first two batches of an epoch."""
    with Loader(ShardSet.open(tiny_shards), config.data, preset="pretrain", batch_size=4) as loader:
        return list(islice(loader.epoch(0), 2))


def test_pictures_are_due_after_their_epochs(config):
    pictures = Pictures(config, ONLY, steps_per_epoch=3)
    assert [step for step in range(1, 20) if pictures.is_due(step)] == [6, 12, 18]


def test_the_same_clips_are_drawn_every_time_and_nothing_of_the_run_is_touched(config, net, batches):
    pictures, state = Pictures(config, ONLY, steps_per_epoch=3), net.state_dict()
    before, trained_before = copy.deepcopy(state), [param.requires_grad for param in net.parameters()]
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, again = (pictures.draw(batch, state.items()) for batch in batches)
    assert torch.equal(torch.rand(4), expected), "random numbers were drawn"
    assert first.failure is None
    assert {name: (picture.dtype, picture.ndim) for name, picture in first.pictures.items()} == {
        "reconstruction": (np.dtype("uint8"), 3),
        "attention": (np.dtype("uint8"), 3),
    }
    for name, picture in first.pictures.items():
        np.testing.assert_array_equal(again.pictures[name], picture)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [param.requires_grad for param in net.parameters()] == trained_before


def test_the_pictures_are_of_the_weights_that_are_given(config, net, batches):
    pictures = Pictures(config, ONLY, steps_per_epoch=3)
    before = pictures.draw(batches[0], net.state_dict().items()).pictures
    with torch.no_grad():
        net.video_student.decoder.prediction.bias += torch.randn(len(net.video_student.decoder.prediction.bias))
    after = pictures.draw(batches[0], net.state_dict().items()).pictures
    assert (after["reconstruction"] != before["reconstruction"]).any()
    np.testing.assert_array_equal(after["attention"], before["attention"])


def test_a_rank_that_is_not_the_first_goes_through_the_weights_and_draws_nothing(config, net, batches):
    weights = iter(net.state_dict().items())
    assert Pictures(config, SECOND, steps_per_epoch=3).draw(batches[0], weights) == ({}, None)
    assert next(weights, None) is None


def test_what_goes_wrong_is_told_in_place_of_pictures(config, net, batches):
    weights = net.state_dict()
    del weights["video_student.encoder.norm.bias"]
    drawn = Pictures(config, ONLY, steps_per_epoch=3).draw(batches[0], weights.items())
    assert drawn.pictures == {}
    assert "pictures could not be drawn: RuntimeError" in drawn.failure
    assert "video_student.encoder.norm.bias" in drawn.failure


@pytest.mark.parametrize("override", ["log.pictures_every_epochs=null", "log.tensorboard=false"])
def test_none_are_drawn_where_they_are_not_wanted_or_have_no_place(override, tmp_path, pretrain_settings):
    path = runs.write_settings(tmp_path / "pretrain.yaml", pretrain_settings)
    config = load(path, [override], {"pretrain": PretrainConfig})
    assert PretrainJob(config, ONLY).open_pictures(steps_per_epoch=3) is None
