"""Every loader of the benchmark gives the same views: exactly where nothing is drawn, in distribution where it is."""

import numpy as np
import pytest
import torch

from xkd.benchmarks.loader import PROVIDERS, ours
from xkd.benchmarks.needs import Needs
from xkd.benchmarks.peers import PEERS
from xkd.benchmarks.peers.work import Work
from xkd.benchmarks.shards import given_or_made
from xkd.pipelines.config import DataConfig

VIEWS = ("video_global", "video_local", "audio_global", "audio_local")
STILL = {"scale": (1, 1), "ratio": (1, 1)} | dict.fromkeys(
    ("flip", "brightness", "contrast", "saturation", "hue", "gray", "blur"), 0
)


@pytest.fixture(scope="module")
def shards():
    """8 clips of 5 s, pictures of 128x128."""
    with given_or_made(None, 8) as folder:
        yield folder


def work(shards, **data) -> Work:
    return Work(shards, DataConfig(train=str(shards), order="global", **data), batch_size=4)


def opened(provider, work):
    if reason := PROVIDERS[provider].missing():
        pytest.skip(reason)
    return PEERS[provider].open(work)


def an_epoch(epoch, number=0) -> dict[str, np.ndarray]:
    """The views of an epoch, all clips."""
    batches = [{name: views[name].clone() for name in VIEWS} for views in epoch(number)]
    return {name: torch.cat([views[name] for views in batches]).numpy() for name in VIEWS}


def ours_in_stored_order(work, number=0) -> dict[str, np.ndarray]:
    with ours(work) as epoch:
        batches = [{name: views[name].clone() for name in (*VIEWS, "sample_ids")} for views in epoch(number)]
    place = torch.cat([views["sample_ids"] for views in batches]).argsort()
    return {name: torch.cat([views[name] for views in batches])[place].numpy() for name in VIEWS}


@pytest.mark.parametrize("provider", PEERS)
def test_views_for_which_nothing_is_drawn_are_ours(shards, provider):
    """Of the clip that is drawn by us for both, and so also: the same frames, and the same stretch of sound."""
    local = STILL | {"count": 2, "frames": 32, "size": 96}
    still = work(
        shards,
        video={"global_view": STILL, "local_view": local},
        audio={"global_view": {"volume": 0}, "local_view": {"count": 2, "seconds": 4, "volume": 0, "resize_crop": False}},
    )
    wanted = ours_in_stored_order(still, number=3)
    with opened(provider, still) as epoch:
        found = an_epoch(epoch, number=3)
    for name in VIEWS:
        assert found[name].shape == wanted[name].shape
        assert found[name].dtype == wanted[name].dtype == np.float32
        # Decoders differ in colours, and filters at sharp edges.
        assert np.abs(found[name] - wanted[name]).mean() < (0.1 if "video" in name else 1e-3), name
    moved = np.abs(np.roll(found["video_global"], 1, axis=2) - wanted["video_global"]).mean()
    assert moved > 2 * np.abs(found["video_global"] - wanted["video_global"]).mean()


@pytest.mark.long
@pytest.mark.parametrize("provider", PEERS)
def test_views_that_are_drawn_spread_as_ours_do(shards, provider):
    """Over 8 epochs of 8 clips: the middle and the width of the views' mean values, and of the values in a view."""
    drawn = work(shards)
    with opened(provider, drawn) as epoch:
        found = [an_epoch(epoch, number) for number in range(8)]
    wanted = [ours_in_stored_order(drawn, number) for number in range(8)]
    for name in VIEWS:
        theirs, own = (np.concatenate([views[name].reshape(8, -1) for views in epochs]) for epochs in (found, wanted))
        assert theirs.shape == own.shape
        for statistic in (lambda views: views.mean(axis=1), lambda views: views.std(axis=1)):
            a, b = statistic(theirs), statistic(own)
            assert abs(a.mean() - b.mean()) < 0.3 * max(1, b.std()), name
            assert 0.5 < a.std() / b.std() < 2, name


@pytest.mark.parametrize("provider", PEERS)
def test_epochs_differ_and_a_round_takes_whole_batches(shards, provider):
    drawn = work(shards)
    with opened(provider, drawn) as epoch:
        first, second = an_epoch(epoch, 0), an_epoch(epoch, 1)
    for name in VIEWS:
        assert len(first[name]) == 8
        assert not np.array_equal(first[name], second[name])


def test_clips_too_short_for_the_others_are_named(tiny_shards):
    with pytest.raises(ValueError, match=r"sample .* lasts 2\.\d+ s, less than a clip of 4 s; give --shards whose samples"):
        work(tiny_shards).clips(0)


def test_what_is_missing_is_named_with_the_reason():
    assert Needs({"numpy": "numpy"}).missing() is None
    assert Needs({"numpy": "numpy", "no_such_module": "No-Such"}).missing() == "No-Such: No module named 'no_such_module'"
    assert Needs({"numpy": "numpy"}).versions() == f"numpy {np.__version__}"
