"""What holds for every dataset of the table, on its replica."""

import pickle
import re

import pytest

from tests.media import write_clip
from tests.pipelines.convert.sources import (
    test_audioset,
    test_esc50,
    test_fsd50k,
    test_hmdb51,
    test_kinetics,
    test_ucf101,
    test_vggsound,
)
from tests.pipelines.convert.sources.conftest import FORMS
from xkd.pipelines.convert.sources import DATASETS
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.shards.index import ShardSet

FOLDER = {"train.txt": "dog/1.mp4\ncat/2.mp4\ndog/gone.mp4\n", "dog/1.mp4": b"", "cat/2.mp4": b"", "cat/3.mp4": b""}
# Dataset: a split, its replica, and the number of clips of the split that are there and that are missing.
REPLICAS = {
    "kinetics400": ("train", test_kinetics.FILES, 4, 1),
    "kinetics_sound": ("train", test_kinetics.FILES, 2, 1),
    "audioset": ("eval", test_audioset.FILES, 4, 1),
    "vggsound": ("test", test_vggsound.FILES, 2, 1),
    "ucf101": ("all", test_ucf101.FILES, 3, 1),
    "hmdb51": ("all", test_hmdb51.FILES, 3, 1),
    "esc50": ("all", test_esc50.FILES, 3, 1),
    "fsd50k": ("dev", test_fsd50k.FILES, 3, 1),
    "folder": ("train", FOLDER, 2, 1),
}
every_dataset = pytest.mark.parametrize("name", DATASETS)


@every_dataset
def test_a_removed_file_shows(folder, name):
    split, files, present, missing = REPLICAS[name]
    root = folder(files)
    before = DATASETS[name].list(root, split)
    assert (len(before.items), len(before.missing)) == (present, missing)
    for item in before.items[1:]:
        item.location.path.unlink()
        after = DATASETS[name].list(root, split)
        assert item.name not in {other.name for other in after.items}
        assert len(after.items) + len(after.missing) == present + missing
        (shown,) = set(after.missing) - set(before.missing)
        assert len(after.missing) == len(before.missing) + 1
        basename = item.name.rpartition("/")[2]
        assert basename[:9] in shown or basename[1:10] in shown  # a file may have a Y in front of the listed name
        assert after.classes == before.classes
        assert after.unlisted == before.unlisted
        before = after


@every_dataset
def test_a_dataset_is_listed_alike_in_folders_and_in_tars(tmp_path, name):
    split, files, *_ = REPLICAS[name]
    listings = []
    for form in FORMS:
        root = tmp_path / form.__name__
        root.mkdir()
        form(root, files)
        listings.append(DATASETS[name].list(root, split))
    first = listings[0]
    for other in listings[1:]:
        assert other.classes == first.classes
        assert (other.missing, other.unlisted, other.official) == (first.missing, first.unlisted, first.official)
        assert [described(item) for item in other.items] == [described(item) for item in first.items]
        assert any(item.location.member for item in other.items)


def described(item):
    return item.key, item.name, item.labels, item.split, item.roles, item.time_range, item.location.read_bytes()


@every_dataset
def test_the_items_suit_shards(folder, name):
    split, files, *_ = REPLICAS[name]
    listing = DATASETS[name].list(folder(files), split)
    keys = [item.key for item in listing.items]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,57}", key) for key in keys)
    for item in listing.items:
        assert item.split == split
        assert 0 < len(set(item.labels)) == len(item.labels)
        assert set(item.labels) <= set(listing.classes)
        assert len(item.labels) == 1 or DATASETS[name].multi_label
        assert len(item.roles) == listing.num_folds
        assert set(item.roles) <= {"train", "test", "unused"}
        assert pickle.loads(pickle.dumps(item)) == item
    assert len(set(listing.classes)) == len(listing.classes)


def test_the_table_has_the_published_counts():
    published = {name: dict(dataset.official) for name, dataset in DATASETS.items() if dataset.official}
    assert published == {
        "kinetics400": {"train": 246535, "val": 19907, "test": 39806},
        "kinetics_sound": {"train": 22713, "val": 1593},
        "ucf101": {"all": 13320},
        "hmdb51": {"all": 6766},
        "esc50": {"all": 2000},
        "fsd50k": {"dev": 40966, "eval": 51197 - 40966},
    }
    assert {name: dataset.official_classes for name, dataset in DATASETS.items() if name != "folder"} == {
        **{"kinetics400": 400, "kinetics_sound": 32, "audioset": 527, "vggsound": 309},
        **{"ucf101": 101, "hmdb51": 51, "esc50": 50, "fsd50k": 200},
    }
    assert all(set(dataset.official) <= set(dataset.splits or ()) for dataset in DATASETS.values())


@every_dataset
def test_an_empty_folder_is_an_error_that_says_what_was_expected(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}: .*expected"):
        DATASETS[name].list(tmp_path, REPLICAS[name][0])


@every_dataset
def test_a_replica_of_real_media_in_tars_becomes_shards(tmp_path, name):
    split, files, present, _ = REPLICAS[name]
    for kind in ("mp4", "mkv", "avi", "wav"):
        write_clip(
            tmp_path / f"clip.{kind}", seconds=0.5, **({"picture": None, "audio_codec": "pcm_s16le"} if kind == "wav" else {})
        )
    media = {file: (tmp_path / f"clip.{file[-3:]}") for file in files if file[-3:] in ("mp4", "mkv", "avi", "wav")}
    if name == "audioset":  # here all clips need pictures, whatever they are called
        media = dict.fromkeys(media, tmp_path / "clip.mp4")
    root = tmp_path / "source"
    root.mkdir()
    FORMS[-1](root, {**files, **{file: clip.read_bytes() for file, clip in media.items()}})
    summary = write_shards(root, tmp_path / "out", dataset=name, split=split, workers=1)
    shards = ShardSet.open(tmp_path / "out")
    assert len(shards) == present, summary
    assert shards.classes == list(DATASETS[name].list(root, split).classes)
