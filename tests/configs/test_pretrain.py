"""The paper's three configurations: every field is the method's, they differ where the method says, and each one trains."""

import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from tests.flat import flat
from tests.launcher import launch
from xkd.config import load
from xkd.train.config import PretrainConfig
from xkd.train.pretraining import schedule

VARIANTS = ("xkd", "xkd_mas", "xkd_mats")

# What shards hold and a loader does: no part of the method.
LOADING = {
    "data.num_threads": None,
    "data.pipelines": 1,
    "data.prefetch": 2,
    "data.order": "block",
    "data.block_shards": 4,
    "data.canonical_nodes": 16,
    "data.read_ahead": 64,
    "data.max_bad_share": 0.01,
    "data.stage_dir": None,
    "data.cache_dir": None,
    "data.cache_bytes": None,
    "data.allow_pipe": False,
    "train.max_steps": None,
    "train.log_every": 20,
    "train.checkpoint_every": 1000,
    "train.keep_checkpoints": 2,
    "train.milestone_every_epochs": None,
    "train.hang_timeout_minutes": 10.0,
    "train.max_skipped_steps": 10,
    "train.accumulation": 1,
    "train.precision": "auto",
    "train.compile": False,
    "model.activation_checkpointing": False,
    "optim.final_weight_decay": None,
    "optim.freeze_last_layer_epochs": 0.0,
    "optim.recon_only_epochs": 0.0,
    "ema.form": None,
    "log.tensorboard": True,
    "log.pictures_every_epochs": 20.0,
    "log.wandb": None,
    "log.collapse.lines": 10,
    "log.collapse.feature_std": 0.01,
    "log.collapse.min_entropy": 0.01,
    "log.collapse.max_entropy": 0.98,
    "probe.every_epochs": None,
    "probe.clips": 4000,
    "probe.neighbours": 20,
    "deepspeed.zero_stage": 1,
    "deepspeed.overrides": {},
}

# method.md: sections 1 (geometry), 2 (the step, its decisions, its schedules) and 3 (data path).
METHOD = {
    "job": "pretrain",
    "run_dir": "runs/xkd",
    "seed": 0,
    "data.train": "shards/kinetics400/train",
    "data.test": None,
    "data.clip_seconds": 4.0,
    "data.min_seconds": 1.1,
    "data.crop_from": "source",
    "data.aligned_locals": False,
    "data.video.fps": 8.0,
    "data.video.mean": (0.485, 0.456, 0.406),
    "data.video.std": (0.229, 0.224, 0.225),
    "data.video.global_view.size": 112,
    "data.video.global_view.scale": (0.2, 1.0),
    "data.video.global_view.ratio": (3 / 4, 4 / 3),
    "data.video.global_view.flip": 0.5,
    "data.video.global_view.brightness": 0.4,
    "data.video.global_view.contrast": 0.4,
    "data.video.global_view.saturation": 0.4,
    "data.video.global_view.hue": 0.2,
    "data.video.global_view.gray": 0.0,
    "data.video.global_view.blur": 0.0,
    "data.video.global_view.blur_sigma": (0.1, 2.0),
    "data.video.local_view.size": 96,
    "data.video.local_view.scale": (0.08, 0.4),
    "data.video.local_view.ratio": (3 / 4, 4 / 3),
    "data.video.local_view.flip": 0.5,
    "data.video.local_view.brightness": 0.4,
    "data.video.local_view.contrast": 0.4,
    "data.video.local_view.saturation": 0.4,
    "data.video.local_view.hue": 0.2,
    "data.video.local_view.gray": 0.2,
    "data.video.local_view.blur": 0.5,
    "data.video.local_view.blur_sigma": (0.1, 2.0),
    "data.video.local_view.count": 1,
    "data.video.local_view.frames": 8,
    "data.audio.sample_rate": 16000,
    "data.audio.num_mels": 80,
    "data.audio.n_fft": 1024,
    "data.audio.hop": 143,
    "data.audio.low_hz": 0.0,
    "data.audio.high_hz": 8000.0,
    "data.audio.mean": -5.3688107,
    "data.audio.std": 4.410007,
    "data.audio.global_view.volume": 0.1,
    "data.audio.local_view.volume": 0.2,
    "data.audio.local_view.count": 1,
    "data.audio.local_view.seconds": 1.0,
    "data.audio.local_view.resize_crop": True,
    "model.size": "base",
    "model.encoder": None,
    "model.decoder": None,
    "model.sharing": "none",
    "model.shared_ema": "once",
    "model.teacher_view": "global",
    "model.refinement": "mean",
    "model.cls_token": True,
    "model.position_std": 0.02,
    "model.video.tubelet": (4, 16, 16),
    "model.video.mask_ratio": 0.85,
    "model.audio.patch": (4, 16),
    "model.audio.mask_ratio": 0.80,
    "model.projector.hidden_dim": 2048,
    "model.projector.num_layers": 3,
    "model.projector.bottleneck_dim": 256,
    "model.projector.out_dim": 8192,
    "model.projector.shared_norm": True,
    "loss.weights.recon": 5.0,
    "loss.weights.cmkd": 1.0,
    "loss.weights.align": 1.0,
    "loss.norm_pix_loss": True,
    "loss.align_group": 32,
    "loss.student_temperature": "per_modality",
    "loss.video.student_temperature": 0.1,
    "loss.video.teacher_temperature": 0.1,
    "loss.video.center_momentum": 0.9,
    "loss.audio.student_temperature": 0.1,
    "loss.audio.teacher_temperature": 0.07,
    "loss.audio.center_momentum": 0.9,
    "optim.lr": 1e-4,
    "optim.base_batch": 256,
    "optim.final_lr": 0.0,
    "optim.warmup_epochs": 30.0,
    "optim.betas": (0.9, 0.95),
    "optim.weight_decay": 0.3,
    "clip.norm": 0.3,
    "clip.scope": "students",
    "ema.video": 0.997,
    "ema.audio": 0.997,
    "ema.final": 1.0,
    "train.global_batch": 256,
    "train.epochs": 800.0,
}


def ramp(modality, start, end):
    name = f"loss.{modality}.teacher_temperature"
    return {f"{name}.start": start, f"{name}.end": end, f"{name}.epochs": 30.0}


# What downstream protocols change, and pre-training leaves alone.
DOWNSTREAM = {
    "data.train_clips": 1,
    "data.eval_clips": 1,
    "data.eval_crops": 1,
    "data.video.global_view.rand_augment.ops": 0,
    "data.video.global_view.rand_augment.probability": 0.5,
    "data.video.global_view.rand_augment.magnitude": 7.0,
    "data.video.global_view.rand_augment.magnitude_std": 0.5,
    "data.video.global_view.erase": 0.0,
    "data.video.global_view.erase_area": (0.02, 0.33),
    "data.video.local_view.rand_augment.ops": 0,
    "data.video.local_view.rand_augment.probability": 0.5,
    "data.video.local_view.rand_augment.magnitude": 7.0,
    "data.video.local_view.rand_augment.magnitude_std": 0.5,
    "data.video.local_view.erase": 0.0,
    "data.video.local_view.erase_area": (0.02, 0.33),
    "data.audio.global_view.time_warp": 0,
    "data.audio.global_view.resize_crop": False,
    "data.audio.global_view.freq_masks": 0,
    "data.audio.global_view.freq_mask_width": 10,
    "data.audio.global_view.time_masks": 0,
    "data.audio.global_view.time_mask_width": 20,
    "data.audio.local_view.time_warp": 0,
    "data.audio.local_view.freq_masks": 0,
    "data.audio.local_view.freq_mask_width": 10,
    "data.audio.local_view.time_masks": 0,
    "data.audio.local_view.time_mask_width": 20,
}

DIFFERENCES = {
    "xkd": {},
    "xkd_mas": {
        "run_dir": "runs/xkd_mas",
        "model.sharing": "student",
        "data.video.local_view.count": 3,
        **ramp("video", 0.09, 0.11),
        **ramp("audio", 0.04, 0.06),
    },
    "xkd_mats": {"run_dir": "runs/xkd_mats", "model.sharing": "both", "data.video.local_view.count": 3},
}


def resolved(variant, *fields):
    return load(f"pretrain/{variant}.yaml", fields, {"pretrain": PretrainConfig})


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_field_is_the_methods(variant):
    expected = {**LOADING, **DOWNSTREAM, **METHOD, **DIFFERENCES[variant]}
    ramps = {path.removesuffix(".start") for path in expected if path.endswith(".start")}
    found = flat(resolved(variant).model_dump())
    assert found == {path: value for path, value in expected.items() if path not in ramps}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variants_file_names_only_what_sets_it_apart(variant):
    own = yaml.safe_load(Path("configs/pretrain", f"{variant}.yaml").read_text())
    assert own.pop("base") == "base.yaml"
    assert flat(own).keys() == DIFFERENCES[variant].keys() | {"run_dir", "model.sharing"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_audioset_is_another_folder_of_shards_and_nothing_else(variant):
    audioset = resolved(variant, "data={train: shards/audioset/train}")
    assert audioset.data.train == "shards/audioset/train"
    data = audioset.data.model_copy(update={"train": "shards/kinetics400/train"})
    assert audioset.model_copy(update={"data": data}) == resolved(variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_views_have_the_methods_tokens(variant):
    config = resolved(variant)
    assert config.data.view_shapes == {
        "video_shape": (3, 32, 112, 112),
        "audio_shape": (1, 80, 448),
        "local_video_shape": (3, 8, 96, 96),
        "local_audio_shape": (1, 80, 112),
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_schedules_follow_the_method(variant):
    """Epochs 0, 15, 30 and 800 of a run with 10 steps an epoch."""
    config = resolved(variant)
    values = [schedule(config, 10 * epoch, steps_per_epoch=10) for epoch in (0, 15, 30, 800)]
    assert [value["lr"] for value in values] == pytest.approx([0, 0.5e-4, 1e-4, 0])
    assert [value["ema_video"] for value in (values[0], values[-1])] == [0.997, 1.0]
    assert [value["ema_audio"] for value in (values[0], values[-1])] == [0.997, 1.0]
    video, audio = ([value[f"teacher_temperature_{modality}"] for value in values] for modality in ("video", "audio"))
    assert video == pytest.approx([0.09, 0.10, 0.11, 0.11] if variant == "xkd_mas" else [0.1] * 4)
    assert audio == pytest.approx([0.04, 0.05, 0.06, 0.06] if variant == "xkd_mas" else [0.07] * 4)


BLOCKS = "encoder.blocks.11.mlp.fc2.weight"


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_steps_on_two_ranks(variant, tiny_shards, tmp_path):
    """Real shards through the launcher; smaller networks and batches, all else as configured."""
    small = ("model.size=tiny", "train.global_batch=4", "loss.align_group=2", "train.max_steps=2", "train.log_every=1")
    result = launch(f"pretrain/{variant}.yaml", f"data={{train: {tiny_shards}}}", f"run_dir={tmp_path}", *small)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "state.json").read_text()) == {"status": "done", "step": 2}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        assert line["loss"] == pytest.approx((5 * line["recon"] + line["cmkd"] + line["align"]) / 7, rel=1e-5)
        assert line["skipped_steps"] == line["substituted"] == 0
    weights = load_file(tmp_path / "checkpoints" / "step-000002" / "weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    alike = {role: weights[f"video_{role}.{BLOCKS}"].equal(weights[f"audio_{role}.{BLOCKS}"]) for role in ("student", "teacher")}
    # Both teachers copy and follow the same blocks where the students share them, so theirs stay equal without being shared.
    assert alike == dict.fromkeys(("student", "teacher"), variant != "xkd")
