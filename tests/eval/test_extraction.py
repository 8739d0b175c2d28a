import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.pipelines.damage import copy_with_damage
from xkd.eval import extraction as module
from xkd.eval.config import EvalConfig
from xkd.eval.extraction import Extraction
from xkd.eval.splits import Part
from xkd.eval.subject import open_subject
from xkd.pipelines.shards.index import ShardSet


@pytest.fixture
def extraction(run_dir, tmp_path):
    """The features of the untrained net of seed 7; keywords are fields of the data, or of the extraction."""
    subject = open_subject(EvalConfig(job="eval", checkpoint=str(run_dir), backbone="student"))

    def make(place=(0, 1), batch_size=5, seed=0, root=tmp_path / "features", **views):
        data = subject.data.model_copy(update=views)
        return Extraction(subject, data, root, batch_size, "fp32", seed, place)

    return make


@pytest.fixture
def part(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    return Part(shards, np.arange(len(shards)))


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.safetensors")}


def equal(one, other):
    assert one.keys == other.keys
    np.testing.assert_array_equal(one.labels, other.labels)
    for modality, array in one.arrays.items():
        np.testing.assert_allclose(array, other.arrays[modality], atol=1e-6)


def test_each_sample_has_its_views_and_what_is_there_is_taken(extraction, part, tmp_path):
    features, dropped = extraction(eval_clips=2, eval_crops=3).features(part, "eval")
    assert {name: array.shape for name, array in features.arrays.items()} == {"video": (12, 6, 24), "audio": (12, 2, 24)}
    assert (features.keys, dropped) == (part.keys, {})
    before = files(tmp_path)
    again, _ = extraction(eval_clips=2, eval_crops=3, batch_size=50).features(part, "eval")
    equal(again, features)
    assert files(tmp_path) == before


def test_how_views_are_spread_over_passes_does_not_matter(extraction, part, tmp_path):
    views = {"eval_clips": 2, "eval_crops": 3}
    small, large = (extraction(batch_size=n, root=tmp_path / str(n), **views).features(part, "eval")[0] for n in (4, 99))
    equal(small, large)


def test_augmented_clips_follow_from_the_seed_alone(extraction, part, tmp_path):
    of = lambda **fields: extraction(train_clips=3, **fields).features(part, "svm")[0]  # noqa: E731
    one, same, other = of(root=tmp_path / "a"), of(root=tmp_path / "b", batch_size=50), of(root=tmp_path / "c", seed=1)
    assert one.arrays["video"].shape == (12, 3, 24)
    equal(one, same)
    assert np.abs(one.arrays["video"] - other.arrays["video"]).max() > 1e-3
    assert np.abs(one.arrays["video"][:, 0] - one.arrays["video"][:, 1]).max() > 1e-3


def test_only_what_changes_the_features_makes_them_others(extraction, part):
    plain = extraction().store(part.shards, "eval").folder
    assert extraction(batch_size=9, num_threads=1, train_clips=7, seed=5).store(part.shards, "eval").folder == plain
    for changed in (extraction(eval_clips=2), extraction(crop_from="resized"), extraction(clip_seconds=1.0)):
        assert changed.store(part.shards, "eval").folder != plain
    augmented = extraction().store(part.shards, "svm").folder
    for changed in (extraction(seed=5), extraction(train_clips=7)):
        assert changed.store(part.shards, "svm").folder != augmented


def test_several_processes_share_the_samples_and_find_the_same(extraction, part, tmp_path):
    for rank in (0, 1, 2):
        extraction(place=(rank, 3), root=tmp_path / "shared").fill([part], "eval")
    assert extraction(root=tmp_path / "shared").store(part.shards, "eval").missing(part.ids).tolist() == []
    together, _ = extraction(root=tmp_path / "shared").features(part, "eval")
    alone, _ = extraction(root=tmp_path / "alone").features(part, "eval")
    equal(together, alone)


def test_parts_of_one_set_are_filled_in_one_pass(extraction, part, tmp_path):
    halves = [Part(part.shards, part.ids[:7]), Part(part.shards, part.ids[4:])]
    extraction().fill(halves, "eval")
    assert len(files(tmp_path)) == 1
    assert extraction().features(halves[1], "eval")[0].keys == part.keys[4:]


@pytest.mark.filterwarnings("ignore:.*it is left out")
def test_damaged_samples_are_left_out_with_the_reason_and_not_read_again(extraction, part, tmp_path, monkeypatch):
    damaged = copy_with_damage(part.shards, tmp_path / "copy", 0, 7)
    features, dropped = extraction().features(Part(damaged, part.ids), "eval")
    assert list(dropped) == [part.keys[0], part.keys[7]]
    assert all("is damaged" in reason for reason in dropped.values())
    assert features.keys == [key for key in part.keys if key not in dropped]
    monkeypatch.setattr(Extraction, "_compute", lambda *_: pytest.fail("features are computed again"))
    assert extraction().features(Part(damaged, part.ids), "eval")[1] == dropped


@pytest.mark.gpu
def test_a_gpu_gives_the_features_of_the_cpu(extraction, part, tmp_path, monkeypatch):
    on_gpu, _ = extraction(root=tmp_path / "gpu").features(part, "eval")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    on_cpu, _ = extraction(root=tmp_path / "cpu").features(part, "eval")
    for modality, array in on_cpu.arrays.items():
        np.testing.assert_allclose(on_gpu.arrays[modality], array, atol=0.05)  # NVDEC and the CPU decode and scale a little apart


KILLED = """
import os, signal, sys
from pathlib import Path
import xkd.eval.extraction as module
from xkd.eval.feature_store import FeatureStore
from xkd.cli import main

module.PART_ROWS = 5
write, files = FeatureStore.write, []

def write_and_die(self, rows):
    if len(files) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, rows)
    files.append(rows)

FeatureStore.write = write_and_die
main(sys.argv[2:])
"""


@pytest.mark.long
def test_a_killed_extraction_goes_on_and_gives_what_an_undisturbed_one_gives(extraction, part, run_dir, pretrain_yaml, monkeypatch):
    monkeypatch.setattr(module, "PART_ROWS", 5)
    alone, _ = extraction().features(part, "eval")
    settings = ["checkpoint=" + str(run_dir), "backbone=student", "batch_size=5", "dataset.leaks=report", "dataset.name=folder"]
    command = [sys.executable, "-c", KILLED, "1", "features", "eval/svm/avdigits.yaml", *settings]
    killed = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (kept,) = files(run_dir / "features").items()
    command[3] = "-1"
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert kept in files(run_dir / "features").items()
    resumed, _ = extraction(root=run_dir / "features").features(part, "eval")
    equal(resumed, alone)


@pytest.mark.long
def test_processes_of_a_launcher_divide_the_work_and_one_evaluation_reads_it(extraction, part, run_dir, monkeypatch):
    settings = [f"checkpoint={run_dir}", "backbone=student", "batch_size=5", "dataset.leaks=report", "dataset.name=folder"]
    launcher = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "xkd", "features", "eval/svm/avdigits.yaml", *settings],
            env=os.environ | launcher | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    told = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    (folder,) = (run_dir / "features").iterdir()
    assert told == [f"{folder}: {part.shards.location}, eval views\n", ""]
    assert sorted(path.name for path in files(run_dir / "features")) == [
        "part-00000000-00000005.safetensors",
        "part-00000006-00000011.safetensors",
    ]
    monkeypatch.setattr(Extraction, "_compute", lambda *_: pytest.fail("features are computed again"))
    assert extraction(root=run_dir / "features").features(part, "eval")[0].keys == part.keys
