import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.manifest import read_manifest, totals
from xkd.pipelines.shards.sidecar import Entry, open_sidecar, pack, serialize, unpack


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


def test_a_sidecar_with_a_flipped_bit_is_refused(tiny_shards, tmp_path):
    """Its size is right, and it may still open: the label would be wrong."""
    folder = tmp_path / "copy"
    shutil.copytree(tiny_shards, folder)
    path = folder / "train-000001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"train-000001\.safetensors: its sha256 is not that of the manifest; copy"):
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
    manifest["shards"][1] |= {"sidecar_bytes": path.stat().st_size, "sidecar_sha256": sha256(path.read_bytes()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    shards = ShardSet.open(folder)
    assert shards.sample(10).labels == (0, 1)
    with pytest.raises(ValueError, match=f"sample {entries[2].key} has 2 labels; here each needs exactly one"):
        shards.labels()


OPEN_AND_MEASURE = """
import json, sys, time
import numpy as np
import psutil
from xkd.pipelines.shards.index import ShardSet

before, begin = psutil.Process().memory_info().rss, time.perf_counter()
shards = ShardSet.open(sys.argv[1])
seconds, opened = time.perf_counter() - begin, psutil.Process().memory_info().rss
for index in np.random.default_rng(0).integers(len(shards), size=1000):
    sample = shards.sample(int(index))
found = {"samples": len(shards), "seconds": seconds, "bytes": opened - before}
print(json.dumps({**found, "bytes_read": psutil.Process().memory_info().rss - before}))
"""


@pytest.mark.long
def test_two_million_samples_open_in_little_memory(tiny_shards, tmp_path, capsys):
    """2,000 shards of 1,000 samples, with sidecars of their own and empty tars."""
    first = ShardSet.open(tiny_shards).sample(0)
    entry = Entry("k" * 30, (3,), first.video, replace(first.audio, crcs=tuple(range(10))), 1, ("train",) * 3)
    sidecar = serialize(pack([entry] * 1000))
    manifest = read_manifest(tiny_shards)
    checksum = {"sidecar_bytes": len(sidecar), "sidecar_sha256": sha256(sidecar).hexdigest()}
    record = manifest.shards[0].model_copy(update={"num_samples": 1000, "tar_bytes": 0, **checksum})
    shards = [record.model_copy(update={"name": f"train-{number:06d}"}) for number in range(2000)]
    manifest = manifest.model_copy(update=totals(shards, manifest.settings.profile, len(manifest.classes)))
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    for shard in shards:
        (tmp_path / f"{shard.name}.safetensors").write_bytes(sidecar)
        (tmp_path / f"{shard.name}.tar").touch()
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    run = subprocess.run([sys.executable, "-c", OPEN_AND_MEASURE, tmp_path], capture_output=True, env=environment, check=True)
    found = json.loads(run.stdout)
    with capsys.disabled():
        print(
            f"\n2 million samples: opened in {found['seconds']:.2f} s, {found['bytes'] / 1e6:.0f} MB;"
            f" after 1,000 look-ups {found['bytes_read'] / 1e6:.0f} MB"
        )
    assert found["samples"] == 2_000_000
    assert found["bytes"] < 50e6
    assert found["bytes_read"] < 150e6


@pytest.mark.parametrize(
    ("written", "changed", "message"),
    [
        ('"num_samples": 8', '"num_samples": 9', "manifest.json: num_samples is 12, but 13 in its shards together; copy"),
        ('"num_samples": 12', '"num_samples": 21', "manifest.json: num_samples is 21, but 12 in its shards together; copy"),
        ('"fps": 8', '"fps": 16', "manifest.json: video_seconds is 30.0, but 15.0 in its shards together; copy"),
    ],
)
def test_a_manifest_whose_numbers_disagree_is_refused(tiny_shards, tmp_path, written, changed, message):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_shards, folder)
    manifest = folder / "manifest.json"
    assert written in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(written, changed))
    with pytest.raises(ValueError, match=message):
        ShardSet.open(folder)
