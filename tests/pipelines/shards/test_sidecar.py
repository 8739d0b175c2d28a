import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from xkd.pipelines.shards.sidecar import KEY_BYTES, ROLES, AudioEntry, Entry, VideoEntry, open_sidecar, pack, serialize, unpack

crcs = st.integers(0, 2**32 - 1)
offsets = st.integers(0, 2**62)
small = st.integers(0, 2**31 - 1)


def rows(num_folds):
    return st.lists(
        st.builds(
            Entry,
            key=st.text("abcXYZ019_-", min_size=1, max_size=KEY_BYTES),
            labels=st.lists(small, max_size=4).map(tuple),
            video=st.builds(VideoEntry, offsets, offsets, crcs, small, small, small),
            audio=st.builds(AudioEntry, offsets, offsets, offsets, small, st.lists(crcs, max_size=5).map(tuple)),
            info_crc=crcs,
            roles=st.tuples(*[st.sampled_from(ROLES)] * num_folds),
        ),
        max_size=6,
    )


entries = st.integers(0, 5).flatmap(rows)


@given(entries=entries)
def test_every_row_comes_back_from_a_file(entries, tmp_path_factory):
    path = tmp_path_factory.mktemp("sidecar") / "a.safetensors"
    path.write_bytes(serialize(pack(entries)))
    columns = open_sidecar(path)
    assert [unpack(columns, row) for row in range(len(entries))] == entries


def test_the_file_is_what_the_safetensors_library_reads(tiny_shards):
    path = tiny_shards / "train-000000.safetensors"
    columns, expected = open_sidecar(path), load_file(path)
    assert columns.keys() == expected.keys()
    for name, column in expected.items():
        assert columns[name].dtype == column.dtype
        assert np.array_equal(columns[name], column)


def test_columns_are_views_of_a_map_and_read_only(tiny_shards):
    columns = open_sidecar(tiny_shards / "train-000000.safetensors")
    assert all(isinstance(column, np.memmap) for column in columns.values() if column.size)
    with pytest.raises(ValueError, match="read-only"):
        columns["video_frames"][0] = 1
