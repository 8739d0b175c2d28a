import numpy as np
import pytest

from xkd.eval.feature_store import FeatureStore, Rows


def rows(*ids, dropped=()):
    ids = np.array(ids, np.int64)
    arrays = {"video": np.stack([np.full((3, 2), float(sample)) for sample in ids])} if len(ids) else {}
    targets = np.eye(5, dtype=np.uint8)[ids % 5] if len(ids) else np.empty((0, 0), np.uint8)
    return Rows(ids, [f"clip-{sample}" for sample in ids], targets, arrays, dict.fromkeys(dropped, "is damaged"))


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path, {"encoders": "a", "views": "eval"})


def test_what_was_written_is_read_in_the_order_of_the_ids(store):
    store.write(rows(7, 8))
    store.write(rows(1, 4))
    features, dropped = store.read(np.array([1, 4, 7, 8]))
    assert features.keys == ["clip-1", "clip-4", "clip-7", "clip-8"]
    assert features.labels.tolist() == [1, 4, 2, 3]
    assert features.arrays["video"].shape == (4, 3, 2)
    assert features.arrays["video"][:, 0, 0].tolist() == [1, 4, 7, 8]
    assert dropped == {}


def test_only_what_is_asked_for_is_read(store):
    store.write(rows(1, 4, 7, dropped=[2, 3]))
    features, dropped = store.read(np.array([2, 4]))
    assert features.keys == ["clip-4"]
    assert dropped == {2: "is damaged"}


def test_what_is_neither_kept_nor_known_as_unreadable_is_missing(store):
    wanted = np.arange(6)
    assert store.missing(wanted).tolist() == [0, 1, 2, 3, 4, 5]
    store.write(rows(0, 2, dropped=[3]))
    assert store.missing(wanted).tolist() == [1, 4, 5]
    store.write(rows(dropped=[5]))
    assert store.missing(wanted).tolist() == [1, 4]


def test_what_two_processes_have_kept_is_read_once(store):
    store.write(rows(1, 2, 3))
    store.write(rows(3, 4))
    features, _ = store.read(np.array([1, 2, 3, 4]))
    assert features.keys == ["clip-1", "clip-2", "clip-3", "clip-4"]


def test_another_description_is_another_store(store, tmp_path):
    store.write(rows(1))
    other = FeatureStore(tmp_path, store.description | {"encoders": "b"})
    assert other.missing(np.array([1])).tolist() == [1]
    assert FeatureStore(tmp_path, dict(reversed(store.description.items()))).missing(np.array([1])).tolist() == []


def test_a_file_that_was_not_finished_counts_for_nothing(store):
    store.write(rows(1, 2))
    (part,) = store.folder.glob("part-*")
    part.rename(part.with_name(f"{part.name}.123.tmp"))
    assert store.missing(np.array([1, 2])).tolist() == [1, 2]


def test_a_damaged_file_is_named(store):
    store.write(rows(1, 2))
    (part,) = store.folder.glob("part-*")
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"part-00000001-00000002\.safetensors: is damaged .* delete it"):
        store.missing(np.array([1]))


def test_a_sample_of_several_labels_has_no_label(store):
    one = rows(1, 2)
    one.targets[1] = [1, 0, 1, 0, 0]
    store.write(one)
    assert store.read(np.array([1, 2]))[0].labels.tolist() == [1, -1]


def test_nothing_that_can_be_read_is_an_error_with_the_reason(store):
    store.write(rows(dropped=[1, 2]))
    with pytest.raises(ValueError, match="none of 2 samples can be read: is damaged"):
        store.read(np.array([1, 2]))
