import numpy as np
import pytest

from tests.pipelines.damage import copy_with_damage
from xkd.eval.checkpoint import encoders
from xkd.eval.raw import RAW
from xkd.features import Features, extract
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet


@pytest.fixture(scope="module")
def shards(tiny_shards):
    return ShardSet.open(tiny_shards)


@pytest.fixture(scope="module")
def nets(architecture):
    return {"net": encoders(architecture.build(seed=0), "student"), "raw": RAW}


def extracted(shards, architecture, nets, batch_size):
    with Loader(shards, architecture.data, preset="eval", batch_size=batch_size) as loader:
        return extract(loader, nets)


def test_each_clip_has_one_row_with_its_label_and_key_in_stored_order(shards, architecture, nets):
    features = extracted(shards, architecture, nets, batch_size=5)["net"]
    assert features.keys == [shards.sample(i).key for i in range(len(shards))]
    np.testing.assert_array_equal(features.labels, shards.labels())
    assert {name: array.shape for name, array in features.arrays.items()} == {"video": (12, 1, 24), "audio": (12, 1, 24)}


def test_the_batch_size_does_not_change_the_features(shards, architecture, nets):
    small, large = (extracted(shards, architecture, nets, batch_size) for batch_size in (5, 12))
    for name in nets:
        for modality in ("video", "audio"):
            np.testing.assert_allclose(small[name].of(modality), large[name].of(modality), atol=1e-5)


def test_each_clip_and_crop_of_a_sample_is_a_view(shards, architecture):
    config = architecture.data.model_copy(update={"eval_clips": 2, "eval_crops": 3})
    with Loader(shards, config, preset="eval", batch_size=5) as loader:
        features = extract(loader, {"raw": RAW})["raw"]
        batch = next(iter(loader.epoch(0)))
    assert {name: len(array) for name, array in features.arrays.items()} == {"video": 12, "audio": 12}
    np.testing.assert_allclose(features.arrays["video"][1], RAW["video"](batch.video_global[6:12]), rtol=1e-4)
    np.testing.assert_allclose(features.arrays["audio"][1], RAW["audio"](batch.audio_global[2:4]), rtol=1e-4)
    np.testing.assert_allclose(features.mean("video")[1], RAW["video"](batch.video_global[6:12]).mean(0), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*it is left out")
def test_a_damaged_clip_has_no_row(shards, architecture, nets, tmp_path):
    damaged = copy_with_damage(shards, tmp_path / "copy", 0, 7)
    whole = extracted(shards, architecture, nets, batch_size=5)
    kept = [index for index in range(12) if index not in (0, 7)]
    for batch_size in (1, 5, 12):
        features = extracted(damaged, architecture, nets, batch_size)
        for name, found in features.items():
            assert found.keys == [whole[name].keys[index] for index in kept]
            np.testing.assert_array_equal(found.labels, whole[name].labels[kept])
            np.testing.assert_allclose(found.of("both"), whole[name].of("both")[kept], atol=1e-5)


def test_raw_features_of_real_media_tell_the_classes_apart(shards, architecture, nets):
    features = extracted(shards, architecture, nets, batch_size=12)["raw"]
    red, blue = (features.mean("video").reshape(-1, 3, 256)[:, channel].mean(-1) for channel in (0, 2))
    assert shards.classes == ["high", "low"]
    np.testing.assert_array_equal(red > blue, features.labels == 1)  # low tones come with a red ground
    np.testing.assert_array_equal(features.mean("audio").argmax(axis=1) < 5, features.labels == 1)


def test_both_is_the_concatenation():
    features = Features({"video": np.ones((3, 1, 2)), "audio": np.zeros((3, 1, 4))}, np.arange(3), list("abc"))
    assert features.modalities == ["video", "audio", "both"]
    np.testing.assert_array_equal(features.of("both"), [[[1, 1, 0, 0, 0, 0]]] * 3)


def test_both_pairs_every_crop_with_the_sound_of_its_clip():
    video = np.arange(6.0).reshape(1, 6, 1)  # of two clips, three crops each
    audio = np.array([10.0, 20.0]).reshape(1, 2, 1)
    both = Features({"video": video, "audio": audio}, np.zeros(1), ["a"]).of("both")
    np.testing.assert_array_equal(both[0], [[0, 10], [1, 10], [2, 10], [3, 20], [4, 20], [5, 20]])


def test_a_single_modality_has_no_both():
    assert Features({"audio": np.zeros((3, 1, 4))}, np.arange(3), list("abc")).modalities == ["audio"]
