import numpy as np
import pytest
import torch

from tests.eval.plain_training import classifiers_of, configuration
from tests.pipelines.damage import copy_with_damage
from tests.train.ranks import on_ranks
from xkd.eval.metrics import score
from xkd.eval.scoring import FILE, Scores, Scoring, read_scores, write_scores
from xkd.eval.splits import Part
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.train.distributed import Place

CLIPS, CROPS = 2, 3


def settings(architecture, tmp_path, **sections):
    data = architecture.data.model_copy(update={"eval_clips": CLIPS, "eval_crops": CROPS, "clip_seconds": 1.0})
    return configuration(architecture, run_dir=tmp_path, data=data, classifier={}, **sections)


def trained(architecture, config):
    """Classifiers that tell the classes apart somehow."""
    model = classifiers_of(architecture, config).eval()
    for classifier in model.values():
        torch.nn.init.normal_(classifier.head.weight, std=0.1, generator=torch.Generator().manual_seed(3))
    return model


def measure(place, architecture, config, folder, ids):
    model = trained(architecture, config)
    shape = classifiers_of(architecture, config).to("meta").eval()
    scoring = Scoring(config, place, "cpu", Part(ShardSet.open(folder), np.array(ids)), shape, steps_per_epoch=4)
    return scoring.measure(model.state_dict().items())


@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_sample_is_scored_once_by_the_mean_over_its_clips_and_crops(architecture, tiny_shards, tmp_path, ranks):
    config = settings(architecture, tmp_path)
    ids = [1, 2, 3, 5, 8, 9, 11]
    numbers = on_ranks(measure, architecture, config, str(tiny_shards), ids, ranks=ranks)
    found = read_scores(tmp_path / FILE)
    assert found.ids.tolist() == ids
    model, expected = trained(architecture, config), {"video": [], "audio": []}
    with Loader(ShardSet.open(tiny_shards), config.data, preset="eval", batch_size=1, ids=np.array(ids)) as loader, torch.no_grad():
        batches = [batch for batch in loader if batch.valid.all()]
        for batch in batches:
            assert (len(batch.video_global), len(batch.audio_global)) == (CLIPS * CROPS, CLIPS)
            expected["video"].append(model["video"](batch.video_global).softmax(1).mean(0))
            expected["audio"].append(model["audio"](batch.audio_global).softmax(1).mean(0))
    expected = {name: torch.stack(rows) for name, rows in expected.items()}
    expected["both"] = (expected["video"] + expected["audio"]) / 2
    for name, rows in expected.items():
        torch.testing.assert_close(found.scores[name], rows, rtol=1e-4, atol=1e-5)
    assert found.targets.argmax(1).tolist() == [batch.labels.item() for batch in batches]
    measures = {
        f"test/{name}_{metric}": value
        for name, rows in found.scores.items()
        for metric, value in score(rows.numpy(), found.targets.numpy(), config.dataset.task).items()
    }
    for of_rank in numbers:
        assert {name: of_rank[name] for name in measures} == measures
        assert of_rank["test/samples"] == len(ids)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*it is left out")
def test_damaged_samples_are_left_out_and_told(architecture, tiny_shards, tmp_path):
    damaged = copy_with_damage(ShardSet.open(tiny_shards), tmp_path / "copy", 0, 7)
    config = settings(architecture, tmp_path)
    on_ranks(measure, architecture, config, str(damaged.folder), list(range(12)), ranks=2)
    found = read_scores(tmp_path / FILE)
    assert found.ids.tolist() == [index for index in range(12) if index not in (0, 7)]
    assert sorted(found.dropped) == sorted(damaged.sample(index).key for index in (0, 7))


def test_what_is_written_is_read(tmp_path):
    scores = Scores(torch.arange(3), torch.eye(3, dtype=torch.uint8), {"video": torch.rand(3, 3)}, {"a key": "a reason"})
    write_scores(scores, tmp_path / FILE)
    found = read_scores(tmp_path / FILE)
    assert torch.equal(found.ids, scores.ids)
    assert torch.equal(found.targets, scores.targets)
    assert torch.equal(found.scores["video"], scores.scores["video"])
    assert found.dropped == scores.dropped
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(("every", "due"), [(None, []), (0.5, [2, 4, 6, 8]), (1.0, [4, 8]), (0.01, list(range(1, 9)))])
def test_a_test_is_due_after_so_many_epochs_but_not_before_the_first(architecture, tiny_shards, tmp_path, every, due):
    config = settings(architecture, tmp_path)
    config = config.model_copy(update={"classifier": config.classifier.model_copy(update={"test_every_epochs": every})})
    shape = classifiers_of(architecture, config).to("meta")
    part = Part(ShardSet.open(tiny_shards), np.arange(12))
    scoring = Scoring(config, Place(0, 0, 1), "cpu", part, shape, steps_per_epoch=4)
    assert [step for step in range(9) if scoring.is_due(step)] == due
