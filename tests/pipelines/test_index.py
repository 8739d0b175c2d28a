import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from xkd.pipelines.index import ShardSet
from xkd.pipelines.sidecar import open_sidecar, pack, serialize, unpack


def test_samples_come_in_stored_order_with_their_shard(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    samples = [shards.sample(index) for index in range(len(shards))]
    assert [sample.id for sample in samples] == list(range(12))
    assert [sample.shard.name for sample in samples] == ["train-000000.tar"] * 8 + ["train-000001.tar"] * 4
    assert len({sample.key for sample in samples}) == 12


def test_labels_and_columns_agree_with_the_samples(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    samples = [shards.sample(index) for index in range(len(shards))]
    assert shards.classes == ["high", "low"]
    assert [(label,) for label in shards.labels()] == [sample.labels for sample in samples]
    assert all(sample.key.startswith(shards.classes[sample.labels[0]]) for sample in samples)
    assert np.array_equal(shards.column("video_frames"), [sample.video.frames for sample in samples])


@pytest.mark.parametrize("index", [-1, 12])
def test_a_sample_out_of_range_is_an_index_error(tiny_shards, index):
    with pytest.raises(IndexError, match=f"sample {index} of 12"):
        ShardSet.open(tiny_shards).sample(index)


@pytest.mark.parametrize("suffix", [".tar", ".safetensors"])
def test_a_missing_or_changed_file_is_named_with_the_way_out(tiny_shards, tmp_path, suffix):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_shards, folder)
    path = folder / f"train-000001{suffix}"
    with path.open("ab") as file:
        file.write(b"0")
    with pytest.raises(ValueError, match=rf"train-000001{suffix}: has \d+ bytes, but \d+ in the manifest; copy"):
        ShardSet.open(folder)
    path.unlink()
    with pytest.raises(ValueError, match=rf"train-000001{suffix}: is missing; copy"):
        ShardSet.open(folder)


def test_a_set_with_several_labels_a_sample_has_no_label_vector(tiny_shards, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_shards, folder)
    path = folder / "train-000001.safetensors"
    columns = open_sidecar(path)
    entries = [unpack(columns, row) for row in range(4)]
    entries[2] = replace(entries[2], labels=(0, 1))
    path.write_bytes(serialize(pack(entries)))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][1]["sidecar_bytes"] = path.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    shards = ShardSet.open(folder)
    assert shards.sample(10).labels == (0, 1)
    with pytest.raises(ValueError, match=f"sample {entries[2].key} has 2 labels; here each needs exactly one"):
        shards.labels()
