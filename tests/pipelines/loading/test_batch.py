import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.loading.batch import Batch, multi_hot


@given(st.lists(st.sets(st.integers(0, 6)), max_size=8))
def test_targets_are_one_for_each_label_and_zero_elsewhere(labels):
    expected = np.array([[float(label in one) for label in range(7)] for one in labels], np.float32).reshape(len(labels), 7)
    found = multi_hot([tuple(one) for one in labels], 7)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), expected)


def test_counted_rows_are_the_valid_ones_of_every_tensor():
    batch = Batch(
        video_global=torch.arange(12.0),
        video_local=None,
        audio_global=None,
        audio_local=None,
        labels=torch.arange(3),
        targets=torch.eye(3),
        sample_ids=torch.arange(3),
        keys=["a", "b", "c"],
        substituted=torch.zeros(3, dtype=bool),
        valid=torch.tensor([True, False, True]),
    )
    counted = batch.counted()
    assert counted.video_global.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert (counted.keys, counted.labels.tolist(), counted.audio_global) == (["a", "c"], [0, 2], None)
    assert torch.equal(counted.targets, torch.eye(3)[[0, 2]])
