"""The map of clips: what tells classes apart in the features does so on the map."""

import numpy as np
import pytest

from xkd.features import Features
from xkd.visualize.embedding import LEAST_CLIPS, MOST_COLOURS, embedding, unit_features


def features(classes=2, each=15, spread=0.05, seed=0):
    """Clips of some classes around a direction each; alike in sound."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    video = np.eye(classes, 16)[labels] + spread * rng.standard_normal((len(labels), 16))
    audio = 1 + spread * rng.standard_normal((len(labels), 16))
    arrays = {"video": video[:, None].astype(np.float32), "audio": audio[:, None].astype(np.float32)}
    return Features(arrays, labels, [str(i) for i in range(len(labels))])


def places(axis):
    return [collection.get_offsets() for collection in axis.collections]


@pytest.mark.parametrize("projection", ["pca", "tsne"])
def test_classes_that_lie_apart_lie_apart_on_the_map(projection):
    figure = embedding({"teacher": features()}, ["left", "right"], projection)
    video = figure.get_axes()[0]
    assert "k-NN 100.0 %" in video.get_title()
    one, other = (np.asarray(offsets) for offsets in places(video))
    between = np.linalg.norm(one.mean(0) - other.mean(0))
    assert between > 2 * max(np.linalg.norm(cloud - cloud.mean(0), axis=1).mean() for cloud in (one, other))
    assert ("t-SNE (perplexity 30)" if projection == "tsne" else "PCA") in figure.get_suptitle()


def test_each_net_has_a_row_and_each_modality_a_column():
    figure = embedding({"teacher": features(), "untrained": features(seed=1)}, ["a", "b"], "pca")
    titles = [axis.get_title().split("\n")[0] for axis in figure.get_axes()]
    assert titles == [f"{net}, {modality}" for net in ("teacher", "untrained") for modality in ("video", "audio", "both")]


def test_both_gives_each_modality_the_same_say():
    found = features()
    found.arrays["video"][:] *= 1000
    units = unit_features(found, "both")
    np.testing.assert_allclose(np.linalg.norm(units[:, :16], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(units[:, 16:], axis=1), 1, rtol=1e-5)


def test_more_classes_than_colours_and_clips_of_no_single_class_are_grey_and_counted():
    found = features(classes=MOST_COLOURS + 2, each=3)
    found.labels[:2] = -1
    figure = embedding({"teacher": found}, [f"class {i}" for i in range(MOST_COLOURS + 2)], "pca")
    clouds = places(figure.get_axes()[0])
    assert len(clouds) == MOST_COLOURS + 1
    assert sum(map(len, clouds)) == len(found.labels)
    assert len(clouds[0]) == 2 + 1 + 3  # of no single class; the rest of their class, now the smallest; the last of the others


def test_too_few_clips_are_refused_with_the_fix():
    with pytest.raises(ValueError, match=rf"clips: 4 make no map, of at least {LEAST_CLIPS}: raise it, or give larger shards"):
        embedding({"teacher": features(each=2)}, ["a", "b"], "tsne")
