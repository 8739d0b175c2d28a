import shutil
from functools import cache

import numpy as np
import pytest

from tests.replicas import write_replica
from xkd.eval.config import DatasetConfig
from xkd.eval.splits import Part, find_leaks, open_folds
from xkd.eval.tasks import TASKS
from xkd.pipelines.config import DataConfig
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.shards.index import ShardSet


@pytest.fixture(scope="module")
def shards_of(tmp_path_factory):
    """The shards of a split of a replica."""

    @cache
    def convert(dataset, split="all"):
        root = tmp_path_factory.mktemp(dataset)
        write_shards(write_replica(dataset, root / "source"), root / "shards", dataset=dataset, split=split, workers=1)
        return root / "shards"

    return convert


def folds_of(dataset, train, test=None, **fields):
    return open_folds(DatasetConfig(name=dataset, **fields), DataConfig(train=train, test=test))


def test_the_folds_are_those_of_the_data_sets_lists(shards_of):
    folds = folds_of("esc50", shards_of("esc50"), fold="all", classes=2)
    assert [fold.number for fold in folds] == [1, 2, 3, 4, 5]
    for fold in folds:
        assert {key[0] for key in fold.test.keys} == {str(fold.number)}
        assert str(fold.number) not in {key[0] for key in fold.train.keys}
        assert (len(fold.train.ids), len(fold.test.ids)) == (16, 4)


def test_a_clip_that_a_fold_does_not_use_is_in_neither_split(shards_of):
    (fold,) = folds_of("hmdb51", shards_of("hmdb51"), classes=2)
    assert (fold.number, len(fold.train.ids), len(fold.test.ids)) == (1, 8, 4)
    assert len(fold.train.shards) == 14


def test_a_fold_that_a_data_set_does_not_have_is_refused():
    with pytest.raises(ValueError, match="fold: 4 is not one of 1, 2, 3, all"):
        DatasetConfig(name="ucf101", fold=4)
    with pytest.raises(ValueError, match="fold: 1 was asked for, but kinetics400 has no folds: remove it"):
        DatasetConfig(name="kinetics400", fold=1)


def test_shards_of_another_data_set_are_refused(shards_of):
    with pytest.raises(ValueError, match=r"data\.train: .* holds hmdb51, not ucf101: .*--dataset ucf101 --split all"):
        folds_of("ucf101", shards_of("hmdb51"))


def test_another_number_of_classes_is_refused(shards_of):
    with pytest.raises(ValueError, match=r"has 2 classes, hmdb51 has 51: convert all of it, or set dataset\.classes to 2"):
        folds_of("hmdb51", shards_of("hmdb51"))


def test_a_missing_folder_is_refused_with_the_command_that_writes_it(tmp_path):
    with pytest.raises(ValueError, match=r"data\.train: no shard folder is given.*`xkd shards write SOURCE --dataset folder"):
        folds_of("folder", "")
    with pytest.raises(ValueError, match=r"data\.train: .*nowhere: no such shard folder"):
        folds_of("esc50", tmp_path / "nowhere")


@pytest.fixture
def convert(media_folder, tmp_path):
    """Two conversions of one folder of media, after a change to it."""

    def write(change=lambda root: None):
        for split, names in (("train", range(4)), ("test", range(4, 6))):
            for label in ("low", "high"):
                (tmp_path / "media" / split / label).mkdir(parents=True)
                for number in names:
                    shutil.copy(media_folder / label / f"{label} {number}.mp4", tmp_path / "media" / split / label)
        change(tmp_path / "media")
        for split in ("train", "test"):
            write_shards(tmp_path / "media", tmp_path / split, split=split, workers=1)
        return tmp_path / "train", tmp_path / "test"

    return write


def test_two_conversions_are_two_splits(convert):
    (fold,) = folds_of("folder", *convert())
    assert (fold.number, len(fold.train.ids), len(fold.test.ids), fold.leaks) == (None, 8, 4, [])


def test_splits_of_different_classes_are_refused(convert):
    train, _ = convert()
    with pytest.raises(ValueError, match=r"has the classes \['high', 'low'\].*\['elsewhere'\].*two splits of one data set"):
        folds_of("folder", train, elsewhere(train.parent))


def elsewhere(root):
    (root / "other" / "train" / "elsewhere").mkdir(parents=True)
    shutil.copy(root / "media" / "test" / "low" / "low 4.mp4", root / "other" / "train" / "elsewhere")
    write_shards(root / "other", root / "elsewhere", split="train", workers=1)
    return root / "elsewhere"


def test_a_test_clip_that_is_planted_in_the_training_split_is_found_under_any_name(convert):
    folders = convert(lambda root: shutil.copy(root / "test" / "low" / "low 5.mp4", root / "train" / "low" / "innocent.mp4"))
    with pytest.raises(ValueError, match=r"1 test clips are in the training split.*innocent-\w+ and low-5-\w+\).*dataset\.leaks"):
        folds_of("folder", *folders)
    (fold,) = folds_of("folder", *folders, leaks="report")
    assert [[key.rpartition("-")[0] for key in pair] for pair in fold.leaks] == [["innocent", "low-5"]]


def test_clips_of_one_recording_in_both_splits_are_found(shards_of):
    shards = ShardSet.open(shards_of("ucf101"))
    ids = np.arange(len(shards))
    by_group = {TASKS["ucf101"].recording(shards.sample(index).key): index for index in ids.tolist()}
    assert len(by_group) == len(ids)
    train, test = Part(shards, ids[:6]), Part(shards, ids[6:])
    assert find_leaks(train, test, TASKS["ucf101"]) == []
    assert len(find_leaks(Part(shards, ids[:8]), test, TASKS["ucf101"])) == 2


def test_a_recording_that_a_list_has_on_both_sides_is_refused(tmp_path):
    source = write_replica("ucf101", tmp_path / "source")
    listed = source / "ucfTrainTestlist" / "trainlist01.txt"
    folder = source / "UCF-101" / "ApplyEyeMakeup"
    shutil.copy(folder / "v_ApplyEyeMakeup_g05_c01.avi", folder / "v_ApplyEyeMakeup_g01_c02.avi")  # other content, group 1
    listed.write_text(listed.read_text() + "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi 1\n")
    write_shards(source, tmp_path / "shards", dataset="ucf101", split="all", workers=1)
    with pytest.raises(ValueError, match=r"fold 1 of .*: 1 test clips .*v_ApplyEyeMakeup_g01_c02-\w+ and v_ApplyEyeMakeup_g01_c01"):
        folds_of("ucf101", tmp_path / "shards", classes=2)
