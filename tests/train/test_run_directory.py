"""A run directory belongs to one configuration."""

import json

import pytest

from xkd.config import load
from xkd.pipelines.samples.quarantine import Damage, Quarantine
from xkd.train import run_directory
from xkd.train.config import PretrainConfig


def configuration(run_dir, *fields):
    return load("configs/pretrain/demo.yaml", (f"run_dir={run_dir}", *fields), {"pretrain": PretrainConfig})


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("seed=1", "seed: 0 -> 1"),
        ("data.canonical_nodes=7", "data.canonical_nodes: 16 -> 7"),
        ("train.epochs=3", "train.epochs: 12.0 -> 3.0"),
        ("train.global_batch=32", "train.global_batch: 16 -> 32"),
        ("model.video.mask_ratio=0.6", "model.video.mask_ratio: 0.5 -> 0.6"),
        ("deepspeed.overrides={prescale_gradients: true}", "deepspeed.overrides.prescale_gradients: (not set) -> True"),
    ],
)
def test_a_changed_field_is_refused_by_name(tmp_path, field, says):
    run_directory.record(configuration(tmp_path))
    with pytest.raises(ValueError, match="another configuration") as refused:
        run_directory.check(configuration(tmp_path, field))
    assert says in str(refused.value)


def test_swapped_values_are_a_change_too(tmp_path):
    run_directory.record(configuration(tmp_path, "model.video.mask_ratio=0.6", "model.audio.mask_ratio=0.5"))
    with pytest.raises(ValueError, match=r"model.video.mask_ratio: 0.6 -> 0.5\n  model.audio.mask_ratio: 0.5 -> 0.6"):
        run_directory.check(configuration(tmp_path, "model.video.mask_ratio=0.5", "model.audio.mask_ratio=0.6"))


def test_the_same_configuration_and_another_number_of_steps_go_on(tmp_path):
    run_directory.check(configuration(tmp_path / "new"))
    run_directory.record(configuration(tmp_path))
    run_directory.check(configuration(tmp_path))
    run_directory.check(configuration(tmp_path, "train.max_steps=5", "train.log_every=1", "train.checkpoint_every=7"))
    run_directory.check(configuration(tmp_path, "data.num_threads=3", "data.pipelines=2", "data.prefetch=5"))
    run_directory.check(configuration(tmp_path, "log={wandb: {project: other}, collapse: {lines: 3}}"))
    run_directory.check(configuration(tmp_path, "data.read_ahead=5", "data.max_bad_share=0.2", "data.cache_dir=somewhere"))


def test_shards_may_be_read_from_elsewhere_and_a_new_token_is_not_told(tmp_path):
    run_directory.record(configuration(tmp_path, "data.train=https://host/set?token=old", "data.stage_dir=stage"))
    run_directory.check(configuration(tmp_path, "data.train=https://host/set?token=new", "data.test=moved", "data.stage_dir=other"))
    changed = configuration(tmp_path, "data.train=https://host/set?token=new", "seed=1", "data.stage_dir=stage")
    with pytest.raises(ValueError, match="another configuration") as refused:
        run_directory.check(changed)
    assert "token" not in str(refused.value)
    assert run_directory.changes(changed) == ["  changed  seed: 0 -> 1", "  changed  data.train: (a location) -> (a location)"]


def test_what_changes_rounding_alone_is_not_refused_but_shown(tmp_path):
    assert run_directory.changes(configuration(tmp_path)) == []
    run_directory.record(configuration(tmp_path))
    now = configuration(tmp_path, "deepspeed.zero_stage=3", "train.compile=true", "log={collapse: {lines: 3}}")
    run_directory.check(now)
    assert [line.split()[1:] for line in run_directory.changes(now)] == [
        ["train.compile:", "False", "->", "True"],
        ["log.collapse.lines:", "10", "->", "3"],
        ["deepspeed.zero_stage:", "1", "->", "3"],
    ]


def test_damaged_samples_are_listed_and_read_back(tmp_path):
    run_directory.write_quarantine(tmp_path, Quarantine())
    assert not list(tmp_path.iterdir())
    found = Quarantine([Damage(sample_id=5, key="a", shard="b", epoch=1, reason="c")])
    run_directory.write_quarantine(tmp_path, found)
    assert list(run_directory.read_quarantine(tmp_path)) == list(found)
    (tmp_path / "quarantine.jsonl").write_text("[]\n")
    with pytest.raises(ValueError, match=r"quarantine.jsonl:1: is not the entry of a damaged sample"):
        run_directory.read_quarantine(tmp_path)


def test_a_run_directory_that_is_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    for run_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"run_dir: {run_dir} cannot be written"):
            run_directory.prepare(configuration(run_dir))


def test_the_state_is_replaced_whole(tmp_path):
    run_directory.write_state(tmp_path, "running", step=0)
    run_directory.write_state(tmp_path, "failed", reason="step 3: the loss is nan")
    assert json.loads((tmp_path / "state.json").read_text()) == {"status": "failed", "reason": "step 3: the loss is nan"}
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_the_reason_of_the_rank_that_fails_first_stays_until_the_run_goes_on(tmp_path):
    run_directory.write_failure(tmp_path, "rank 1: out of memory")
    run_directory.write_failure(tmp_path, "rank 0: connection closed by peer")
    assert json.loads((tmp_path / "state.json").read_text()) == {"status": "failed", "reason": "rank 1: out of memory"}
    run_directory.write_state(tmp_path, "running", step=3)
    run_directory.write_failure(tmp_path, "rank 0: no space left on device")
    assert json.loads((tmp_path / "state.json").read_text())["reason"] == "rank 0: no space left on device"
