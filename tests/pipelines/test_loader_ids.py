"""A loader that is confined to some samples of its set: to a fold, or to what is left to do."""

import numpy as np
import pytest
import torch

from tests.pipelines.epochs import assert_same, epoch, rows, small
from tests.replicas import write_replica
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet


def ids_of(batches) -> list[int]:
    return torch.cat([batch.sample_ids[batch.valid] for batch in batches]).tolist()


@pytest.mark.parametrize("preset", ["svm", "eval"])
def test_evaluation_gives_those_samples_and_no_other(shards, preset):
    assert ids_of(epoch(shards, preset=preset, ids=np.array([10, 3, 4, 7, 3]))) == [3, 4, 7, 10]
    assert ids_of(epoch(shards, preset=preset, ids=[11])) == [11]


def test_an_example_is_the_same_in_a_part_and_in_the_whole(shards):
    whole = rows(epoch(shards, preset="pretrain", batch_size=12))
    part = rows(epoch(shards, preset="pretrain", batch_size=2, ids=[2, 9, 5, 6]))
    assert part.keys() == {2, 5, 6, 9}
    for sample, example in part.items():
        assert_same(example, whole[sample])


def test_training_shuffles_the_part_and_counts_it(shards):
    config = small(canonical_nodes=1)
    with Loader(shards, config, preset="linear", batch_size=3, ids=range(7)) as loader:
        assert (len(loader), loader.too_short) == (2, 0)
        orders = [ids_of(list(loader.epoch(number))) for number in range(3)]
    assert all(len(set(order)) == 6 and set(order) <= set(range(7)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    with pytest.raises(ValueError, match=r"2 of 2 samples .* fewer than a global batch of 3"):
        Loader(shards, config, preset="linear", batch_size=3, ids=[0, 1])


def test_a_state_of_another_part_is_refused(shards):
    arguments = {"preset": "linear", "batch_size": 2}
    with (
        Loader(shards, small(), ids=[0, 1, 2, 3], **arguments) as before,
        Loader(shards, small(), ids=[0, 1, 2, 4], **arguments) as other,
        Loader(shards, small(), ids=[3, 2, 1, 0], **arguments) as same,
    ):
        same.load_state_dict(before.state_dict())
        with pytest.raises(ValueError, match=r"ids_sha256 was .* and is now .*: go on with the same"):
            other.load_state_dict(before.state_dict())


@pytest.fixture(scope="module")
def esc50(tmp_path_factory):
    root = tmp_path_factory.mktemp("esc50")
    write_shards(write_replica("esc50", root / "source"), root / "shards", dataset="esc50", split="all", workers=1)
    return ShardSet.open(root / "shards")


def test_a_fold_parts_the_set_by_the_list(esc50):
    seen = []
    for fold in range(1, 6):
        train, test = (esc50.fold_ids(fold, role) for role in ("train", "test"))
        assert sorted([*train, *test]) == list(range(len(esc50)))
        assert all(esc50.sample(k).key.startswith(f"{fold}-") for k in test)
        assert not any(esc50.sample(k).key.startswith(f"{fold}-") for k in train)
        batches = epoch(esc50, preset="eval", ids=test, streams=("audio",))
        assert ids_of(batches) == test.tolist()
        seen += ids_of(batches)
    assert sorted(seen) == list(range(len(esc50)))
    assert len(esc50.fold_ids(1, "unused")) == 0


@pytest.mark.parametrize("fold", [0, 6, -1])
def test_a_fold_that_there_is_not_is_refused(esc50, shards, fold):
    with pytest.raises(ValueError, match=f"has the folds 1 to 5, and fold {fold} is asked for"):
        esc50.fold_ids(fold, "test")
    with pytest.raises(ValueError, match=f"has no folds, and fold {fold} is asked for"):
        shards.fold_ids(fold, "test")


def test_several_labels_are_all_in_the_targets(tmp_path):
    source = write_replica("fsd50k", tmp_path / "source")
    write_shards(source, tmp_path / "shards", dataset="fsd50k", split="dev", workers=1)
    shards = ShardSet.open(tmp_path / "shards")
    several = 0
    for batch in epoch(shards, preset="eval", streams=("audio",)):
        for row, sample in enumerate(batch.sample_ids.tolist()):
            labels = shards.sample(sample).labels
            several += len(labels) > 1
            assert batch.targets[row].nonzero().flatten().tolist() == sorted(labels)
            assert batch.labels[row] == (labels[0] if len(labels) == 1 else -1)
    assert several
