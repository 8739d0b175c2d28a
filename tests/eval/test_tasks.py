import pytest

from xkd.eval.tasks import TASKS
from xkd.pipelines.convert.sources import DATASETS
from xkd.pipelines.convert.sources.item import Item, Location


@pytest.mark.parametrize("name", TASKS)
def test_a_row_agrees_with_the_data_set_that_it_is_of(name):
    task = TASKS[name]
    dataset = DATASETS[task.dataset or name]
    assert task.multi_label == dataset.multi_label
    assert dataset.official_classes in (None, task.classes)
    assert (dataset.splits == ("all",)) == bool(task.folds)
    assert task.folds or dataset.splits is None or set(task.splits) <= set(dataset.splits)


@pytest.mark.parametrize(
    ("name", "file", "recording"),
    [
        ("kinetics400", "train/-_tWDgSPC8Q_000012_000022.mp4", "-_tWDgSPC8Q"),
        ("kinetics_sound", "val/abcdefghijk_000100_000110.mp4", "abcdefghijk"),
        ("ucf101", "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "v_ApplyEyeMakeup_g08"),
        ("ucf101", "UCF-101/HandstandPushups/v_HandStandPushups_g25_c07.avi", "v_HandStandPushups_g25"),
        ("esc50", "audio/5-263831-B-6.wav", "263831"),
        ("fsd50k", "FSD50K.dev_audio/64760.wav", "64760"),
        ("vggsound", "abc-_fghijk_000030.mp4", "abc-_fghijk"),
        ("audioset", "eval/Y-0RWZT-miFs.mp4", "-0RWZT-miFs"),
        ("audioset", "YbcDefghi_k_30.000_40.000.wav", "YbcDefghi_k"),
        ("audioset", "YYbcDefghi_k_30_40.wav", "YbcDefghi_k"),
    ],
)
def test_a_key_tells_the_recording_that_a_clip_was_cut_from(name, file, recording):
    item = Item(Location(None), file, ("a",), "train")
    assert TASKS[name].recording(item.key) == recording


def test_a_key_of_no_known_form_is_a_recording_of_its_own():
    one, other = (Item(Location(None), f"{split}/clip.mp4", ("a",), split).key for split in ("train", "test"))
    assert TASKS["folder"].recording(one) != TASKS["folder"].recording(other)
    assert TASKS["ucf101"].recording(one) == one
