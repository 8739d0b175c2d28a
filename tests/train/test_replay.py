"""A step of a run, done again."""

import io
import json
import math
import shutil
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from tests.pipelines.damage import copy_with_damage
from tests.train.ranks import on_ranks
from xkd.cli import main
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.store.opening import open_shards
from xkd.train import run_directory
from xkd.train.config import PretrainConfig
from xkd.train.pretraining import PretrainJob
from xkd.train.replay import in_one_process, logged_loss, replay
from xkd.train.replayed import Replay
from xkd.train.run import train

STEPS_PER_EPOCH, STEPS, SAVED, REPLAYED = 3, 7, 3, 5
LOGGED = ("loss", "recon_video", "recon_audio", "v2a", "a2v", "align", "grad_norm", "lr", "substituted")


def configuration(settings, run_dir, accumulation=1, **data):
    """3 steps an epoch of 4 clips."""
    run = {"epochs": 3, "max_steps": STEPS, "global_batch": 4, "accumulation": accumulation, "log_every": 1}
    sections = {
        "run_dir": run_dir,
        "train": run | {"checkpoint_every": SAVED, "keep_checkpoints": 9},
        "optim": {"warmup_epochs": 0.0, "lr": 0.01},
        "loss": {"align_group": 2},
        "data": settings["data"] | data,
    }
    return PretrainConfig.model_validate(settings | sections)


def _train(place, config):
    return train(PretrainJob, config)


def _replay(place, run_dir, step, out):
    """What can go to another process: facts, words, and arrays."""
    found = replay(run_dir, step, out)
    hidden = {modality: places.numpy() for modality, places in found.hidden.items()}
    return found.facts(), found.told(), found.agrees, found.batch.video_global.numpy(), hidden


def replayed(run_dir, step, out):
    (found,) = on_ranks(_replay, run_dir, step, out, ranks=1)
    return found


@pytest.fixture(scope="module")
def run_of_one(pretrain_settings, tmp_path_factory):
    config = configuration(pretrain_settings, tmp_path_factory.mktemp("one") / "run", accumulation=2)
    assert on_ranks(_train, config, ranks=1) == [0]
    return config


@pytest.fixture(scope="module")
def run_of_two(pretrain_settings, tmp_path_factory):
    config = configuration(pretrain_settings, tmp_path_factory.mktemp("two") / "run")
    assert on_ranks(_train, config) == [0, 0]
    return config


@pytest.fixture(scope="module")
def of_two(run_of_two, tmp_path_factory):
    """A step of that run, done again in one process."""
    return replayed(run_of_two.run_dir, REPLAYED, tmp_path_factory.mktemp("again"))


def logged(config, step):
    rows = map(json.loads, (config.run_dir / "metrics.jsonl").read_text().splitlines())
    return next(row for row in rows if row["step"] == step)


@pytest.mark.long
@pytest.mark.parametrize(("step", "begun"), [(1, 0), (REPLAYED, SAVED)])
def test_a_step_of_one_process_is_done_again_to_the_bit_and_the_run_only_read(run_of_one, tmp_path, step, begun):
    before = sorted(run_of_one.run_dir.rglob("*"))
    facts, told, agrees, _, _ = replayed(run_of_one.run_dir, step, tmp_path)
    row = logged(run_of_one, step)
    assert facts["begun_after"] == begun
    assert {name: facts[name] for name in LOGGED} == {name: row[name] for name in LOGGED}
    assert agrees
    assert "as logged, to the bit" in told
    assert sorted(run_of_one.run_dir.rglob("*")) == before


@pytest.mark.long
def test_a_step_of_two_ranks_is_done_again_in_one_process_with_the_clips_of_both(run_of_two, of_two):
    facts, _, agrees, videos, _ = of_two
    row = logged(run_of_two, REPLAYED)
    assert agrees
    assert {name: facts[name] for name in LOGGED} == pytest.approx({name: row[name] for name in LOGGED}, rel=1e-5)
    epoch, index = divmod(REPLAYED - 1, STEPS_PER_EPOCH)
    expected_clips, expected_videos = [], []
    for rank in range(2):
        data = run_of_two.data
        split = {"batch_size": 2, "rank": rank, "world_size": 2, "seed": run_of_two.seed}
        with Loader(open_shards(data.train, data), data, preset="pretrain", **split) as loader:
            batch = next(loader.epoch(epoch, index))
            expected_clips += [(rank, key) for key in batch.keys]
            expected_videos.append(batch.video_global)
    assert [(clip["rank"], clip["key"]) for clip in facts["clips"]] == expected_clips
    assert np.array_equal(videos, torch.cat(expected_videos).numpy())


@pytest.mark.long
def test_the_terms_of_the_clips_are_those_of_the_step_in_their_mean(run_of_two, of_two):
    facts, *_ = of_two
    for name in ("recon_video", "recon_audio", "v2a", "a2v"):
        assert np.mean([clip[name] for clip in facts["clips"]]) == pytest.approx(facts[name], rel=1e-5)
        assert len({clip[name] for clip in facts["clips"]}) == 4  # each clip has its own
    weights = run_of_two.loss.weights
    mean = (weights.recon * facts["recon"] + weights.cmkd * facts["cmkd"]) / (weights.recon + weights.cmkd)
    assert np.mean([clip["loss"] for clip in facts["clips"]]) == pytest.approx(mean, rel=1e-5)


@pytest.mark.long
def test_the_masks_are_those_of_the_step(run_of_two, of_two):
    *_, hidden = of_two
    config = run_of_two
    model = XKD(config.model, config.loss, **config.data.view_shapes, seed=config.seed)
    clip = torch.zeros(4, *config.data.video_shape)
    shown = model.reconstruct(clip, "video", step=REPLAYED - 1).mask
    assert np.array_equal(hidden["video"], shown.numpy())
    assert 0 < hidden["audio"].mean() < 1


@pytest.mark.long
def test_a_quarantined_sample_is_replaced_as_in_the_run(pretrain_settings, tiny_shards, tmp_path):
    damaged = copy_with_damage(ShardSet.open(tiny_shards), tmp_path / "damaged", 3)
    config = configuration(pretrain_settings, tmp_path / "run", train=str(damaged.folder), max_bad_share=0.5)
    assert on_ranks(_train, config) == [0, 0]
    steps = [step for step in range(1, STEPS + 1) if logged(config, step)["substituted"]]
    for step in (steps[0], STEPS):  # where it was found, and in a later epoch, which passes it over
        facts, _, agrees, _, _ = replayed(config.run_dir, step, tmp_path / "out")
        assert agrees
        assert damaged.sample(3).key not in [clip["key"] for clip in facts["clips"]]


@pytest.mark.long
def test_the_command_writes_facts_and_views_and_says_whether_the_loss_is_the_same(run_of_one, tmp_path, capsys):
    run_dir = shutil.copytree(run_of_one.run_dir, tmp_path / "run")
    path = run_dir / "metrics.jsonl"
    out = run_dir / "replay" / f"step-{REPLAYED:06d}"
    arguments = ["replay", str(run_dir), "--step", str(REPLAYED), "--samples", "2"]
    (code, shown), *_ = on_ranks(_command, arguments, ranks=1)
    assert code == 0, shown
    facts = json.loads((out / "step.json").read_text())
    assert facts["loss"] == logged(run_of_one, REPLAYED)["loss"]
    assert len(np.unique(imread(out / "views.png")[..., :3].reshape(-1, 3), axis=0)) > 100
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    changed = [row | ({"loss": row["loss"] * 1.001} if row["step"] == REPLAYED else {}) for row in rows]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in changed))
    (code, shown), *_ = on_ranks(_command, arguments, ranks=1)
    assert code == 1
    assert "0.001 of it apart" in shown


def _command(place, arguments):
    with redirect_stdout(io.StringIO()) as shown:
        code = main(arguments)
    return code, shown.getvalue()


def found(config, loss, of_run):
    clips = {"batch": None, "hidden": {}, "losses": {}}
    return Replay(config, step=5, epoch=1, begun=3, ranks=2, numbers={"loss": loss}, logged=of_run, **clips)


@pytest.mark.parametrize(
    ("loss", "of_run", "difference", "agrees"),
    [
        (2.0, 2.0, 0.0, True),
        (2.0, 2.00001, 5e-6, True),
        (2.0, 2.0002, 1e-4, False),
        (2.0, None, None, True),
        (math.nan, math.nan, 0.0, True),
        (math.inf, math.nan, 0.0, True),  # a log has null for both
        (2.0, math.nan, math.inf, False),
        (math.nan, 2.0, math.inf, False),
    ],
)
def test_the_loss_is_compared_with_the_logged_one(pretrain_settings, tmp_path, loss, of_run, difference, agrees):
    again = found(configuration(pretrain_settings, tmp_path), loss, of_run)
    assert again.difference == (difference if difference is None else pytest.approx(difference, rel=0.01))
    assert again.agrees == agrees


def test_what_was_logged_is_found_by_its_step(tmp_path):
    assert logged_loss(tmp_path, 1) is None
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "probe/clips": 5}\n{"step": 2, "loss": 3.5}\n{"step": 4, "loss": null}\n')
    assert [logged_loss(tmp_path, step) for step in (0, 1, 2)] == [None, None, 3.5]
    assert math.isnan(logged_loss(tmp_path, 4))


def test_micro_batches_are_those_of_all_ranks_unless_alignment_wants_the_whole_batch(pretrain_settings, tmp_path):
    config = configuration(pretrain_settings, tmp_path)
    assert in_one_process(config, 2).train.accumulation == 2
    whole = config.model_copy(update={"loss": config.loss.model_copy(update={"align_group": "global"})})
    assert in_one_process(whole, 2).train.accumulation == 1


@pytest.mark.parametrize(
    ("step", "most_steps", "says"),
    [
        (0, 1000, "step: 0 is none"),
        (12, 10, "11 steps would be done again: allow that with --most-steps"),
        (99, 1000, "has 9 steps in all, and no step 99"),
    ],
)
def test_a_step_that_the_run_does_not_have_or_that_is_far_is_refused(pretrain_settings, tmp_path, step, most_steps, says):
    config = configuration(pretrain_settings, tmp_path / "run")
    run_directory.prepare(config)
    run_directory.record(config)
    (error,) = on_ranks(_refused, config.run_dir, step, tmp_path / "out", most_steps, ranks=1)
    assert says in error


def _refused(place, run_dir, step, out, most_steps):
    with pytest.raises(ValueError) as refused:
        replay(run_dir, step, out, most_steps=most_steps)
    return str(refused.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["replay", str(tmp_path), "--step", "1"]) == 2
    assert "config.yaml: no such configuration file" in capsys.readouterr().err
