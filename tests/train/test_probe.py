"""The online probe on real ranks: its numbers are those of the clips, however many ranks there are."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml

from tests import runs
from tests.pipelines.damage import copy_with_damage
from xkd.config import load
from xkd.eval.checkpoint import encoders
from xkd.features import extract
from xkd.model.xkd import XKD
from xkd.neighbours import knn_hits, places
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place
from xkd.train.probe import Probe, build_teachers, knn, retrieval

SHARES = [
    *(f"probe/knn_{name}" for name in ("video", "audio", "both")),
    *(f"probe/{way}_r{among}" for way in ("video_to_audio", "audio_to_video") for among in (1, 5)),
]


def configuration(shards, folder, *overrides):
    path = runs.write_settings(folder / "pretrain.yaml", runs.pretrain_settings(shards))
    fields = ("train.global_batch=4", "probe.every_epochs=2", "probe.neighbours=3", *overrides)
    return load(path, fields, {"pretrain": PretrainConfig})


def network(config):
    """Teachers that are not at their start, and unlike their students."""
    xkd = XKD(config.model, config.loss, **config.data.view_shapes, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, tensor in xkd.state_dict().items():
            if "_teacher." in name:
                tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
    return xkd


def measure(rank, ranks, configs, store, results):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    for case, config in configs.items():
        xkd = network(config)
        before = copy.deepcopy(xkd.state_dict())
        torch.manual_seed(3)
        expected_draw = torch.Generator().manual_seed(3)
        try:
            probe = Probe(config, Place(rank, rank, ranks), "cpu", steps_per_epoch=3)
            results[case, ranks, rank] = probe.measure(xkd.state_dict().items())
        except ValueError as error:
            results[case, ranks, rank] = str(error)
        assert torch.equal(torch.rand(4), torch.rand(4, generator=expected_draw)), "random numbers were drawn"
        assert all(torch.equal(before[name], tensor) for name, tensor in xkd.state_dict().items())
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def damaged_shards(tiny_shards, tmp_path_factory):
    return copy_with_damage(ShardSet.open(tiny_shards), tmp_path_factory.mktemp("damaged") / "copy", 0, 2, 7).folder


@pytest.fixture(scope="module")
def measured(tiny_shards, damaged_shards, tmp_path_factory):
    """What each probe gives on each rank of one and of two: {(case, ranks, rank): numbers, or the error}."""
    folder = tmp_path_factory.mktemp("probes")
    configs = {
        "healthy": configuration(tiny_shards, folder),
        "damaged": configuration(damaged_shards, folder, "probe.clips=9"),
        "too damaged": configuration(damaged_shards, folder, "probe.clips=3"),
    }
    with mp.Manager() as manager:
        results = manager.dict()
        for ranks in (1, 2):
            mp.spawn(measure, (ranks, configs, folder / f"store {ranks}", results), nprocs=ranks)
        return dict(results)


def without_seconds(numbers):
    return {name: value for name, value in numbers.items() if name != "probe/seconds"}


def straightforward(config, shards):
    """The same shares from the features of the evaluation, in one go."""
    xkd = network(config)
    with Loader(shards, config.data, preset="eval", batch_size=12) as loader:
        features = extract(loader, {"net": encoders(xkd, "teacher")})["net"]
    labels, everyone = torch.from_numpy(features.labels), torch.arange(len(features.labels))
    rows = {modality: torch.from_numpy(features.mean(modality)) for modality in features.arrays}
    units = {modality: row / row.norm(dim=1, keepdim=True) for modality, row in rows.items()}
    units["both"] = torch.cat([units["video"], units["audio"]], dim=1)
    shares = {f"probe/knn_{name}": knn_hits(unit, labels, everyone, 3) for name, unit in units.items()}
    with torch.no_grad():
        outputs = {name: getattr(xkd, f"{name}_teacher").head(row) for name, row in rows.items()}
    outputs = {name: output - output.mean(0) for name, output in outputs.items()}
    for query, candidate in (("video", "audio"), ("audio", "video")):
        found = places(outputs[query], outputs[candidate], everyone)
        shares |= {f"probe/{query}_to_{candidate}_r{among}": found < among for among in (1, 5)}
    return {name: hits.double().mean().item() for name, hits in shares.items()} | {"probe/clips": len(labels)}


@pytest.mark.long
def test_one_rank_and_two_find_what_the_evaluation_finds_and_touch_nothing(measured, tiny_shards, tmp_path):
    expected = straightforward(configuration(tiny_shards, tmp_path), ShardSet.open(tiny_shards))
    assert sorted(expected) == sorted([*SHARES, "probe/clips"])
    for place in ((1, 0), (2, 0), (2, 1)):
        assert without_seconds(measured[("healthy", *place)]) == pytest.approx(expected)


@pytest.mark.long
def test_damaged_samples_are_left_out_and_only_the_first_clips_are_probed(measured):
    assert measured["damaged", 1, 0]["probe/clips"] == 6
    assert without_seconds(measured["damaged", 1, 0]) == pytest.approx(without_seconds(measured["damaged", 2, 0]))


@pytest.mark.long
def test_a_set_without_two_healthy_clips_is_refused_on_every_rank(measured, damaged_shards):
    for place in ((1, 0), (2, 0), (2, 1)):
        assert measured[("too damaged", *place)].startswith(
            f"data.test: of the first 3 samples of {damaged_shards} only 1 can be read"
        )


def test_a_probe_is_due_at_the_start_and_after_its_epochs(tiny_shards, tmp_path):
    config = configuration(tiny_shards, tmp_path)
    probe = Probe(config, Place(0, 0, 1), "cpu", steps_per_epoch=3)
    assert [step for step in range(20) if probe.is_due(step)] == [0, 6, 12, 18]


def test_teachers_are_built_from_the_tensors_as_they_are(tiny_shards, tmp_path):
    config = configuration(tiny_shards, tmp_path, "model.sharing=both")
    weights = network(config).state_dict()
    for modality, teacher in build_teachers(config, weights.items()).items():
        for name, tensor in teacher.state_dict().items():
            assert tensor.data_ptr() == weights[f"{modality}_teacher.{name}"].data_ptr()


def test_clips_without_one_class_are_in_no_knn():
    rows = {"labels": torch.tensor([0, -1, 0, 1, 1]), "video": torch.eye(5), "audio": torch.eye(5)}
    assert {name: len(hits) for name, hits in knn(rows, torch.arange(5), 2).items()} == dict.fromkeys(
        ("knn_video", "knn_audio", "knn_both"), 4
    )
    assert knn(rows | {"labels": torch.full((5,), -1)}, torch.arange(5), 2) == {}


def test_what_all_clips_have_in_common_does_not_hide_a_pair():
    own = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    hits = retrieval({"video": own + 100, "audio": 2 * own - 50}, torch.arange(6))
    assert all(hit.all() for hit in hits.values())


def test_a_probe_without_shards_to_probe_on_is_refused_with_the_fix(tiny_shards, tmp_path):
    settings = runs.pretrain_settings(tiny_shards)
    settings["data"].pop("test")
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match=r"probe\.every_epochs: is 2, but data\.test names no shards to probe on: set data\.test"):
        load(tmp_path / "pretrain.yaml", ["probe.every_epochs=2"], {"pretrain": PretrainConfig})
