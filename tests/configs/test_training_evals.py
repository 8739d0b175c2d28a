"""Every linear evaluation and fine-tuning of the method: its file says what section 4 of the method says."""

import pytest

from tests.flat import flat
from xkd.config import load
from xkd.eval.training_config import TrainingEvalConfig

SCHEMAS = dict.fromkeys(("linear", "finetune"), TrainingEvalConfig)
VIEW = "data.video.global_view"
SOUND = "data.audio.global_view"
THREE_BY_THREE = {"data.eval_clips": 3, "data.eval_crops": 3, "classifier.averaging": "softmax"}
INPUT = {"data.clip_seconds": 4.0, "data.video.fps": 8.0, f"{VIEW}.size": 224, f"{VIEW}.flip": 0.5}
UNCOLOURED = {f"{VIEW}.{name}": 0.0 for name in ("brightness", "contrast", "saturation", "hue", "gray", "blur")}
FINETUNE_VIDEO = {
    **INPUT,
    **UNCOLOURED,
    **THREE_BY_THREE,
    f"{VIEW}.rand_augment.ops": 4,
    f"{VIEW}.rand_augment.magnitude": 7.0,
    f"{VIEW}.rand_augment.magnitude_std": 0.5,
    f"{VIEW}.rand_augment.probability": 0.5,
    f"{VIEW}.scale": (0.2, 0.766),
    f"{VIEW}.erase": 0.25,
    "optim.lr": 5e-4,
    "optim.base_batch": 96,
    "optim.final_lr": 1e-6,
    "optim.warmup_epochs": 5.0,
    "optim.weight_decay": 0.05,
    "optim.layer_decay": 0.45,
    "train.epochs": 100.0,
    "train.global_batch": 96,
    "classifier.mixing.mixup": 0.6,
    "classifier.mixing.cutmix": 0.5,
    "classifier.mixing.probability": 1.0,
    "classifier.mixing.cutmix_probability": 0.5,
    "classifier.smoothing": 0.1,
    "classifier.dropout": 0.5,
}
FINETUNE_SOUND = {
    "data.clip_seconds": 4.0,
    f"{SOUND}.volume": 0.2,
    f"{SOUND}.time_warp": 20,
    f"{SOUND}.freq_masks": 2,
    f"{SOUND}.freq_mask_width": 10,
    f"{SOUND}.time_masks": 2,
    f"{SOUND}.time_mask_width": 20,
    f"{SOUND}.resize_crop": True,
    "classifier.dropout": 0.0,
    "classifier.smoothing": 0.0,
    "classifier.mixing.mixup": 0.0,
    "classifier.mixing.cutmix": 0.0,
    "optim.layer_decay": 0.65,
}
UNMIXED = {"classifier.mixing.mixup": 0.0, "classifier.mixing.cutmix": 0.0, "classifier.smoothing": 0.0, "optim.layer_decay": 1.0}
PROTOCOLS = {
    "finetune/ucf101": FINETUNE_VIDEO,
    "finetune/hmdb51": FINETUNE_VIDEO
    | {"optim.lr": 1e-4, "optim.warmup_epochs": 20.0, "optim.layer_decay": 0.75}
    | {"classifier.mixing.mixup": 1.0, "classifier.mixing.cutmix": 1.0},
    "finetune/kinetics400": FINETUNE_VIDEO,
    "finetune/esc50": FINETUNE_SOUND
    | {"optim.lr": 1e-4, "optim.base_batch": 64, "optim.final_lr": 0.0, "optim.warmup_epochs": 10.0, "optim.weight_decay": 0.005}
    | {"train.epochs": 100.0, "train.global_batch": 64, "data.eval_clips": 3, "classifier.averaging": "softmax"},
    "finetune/fsd50k": FINETUNE_SOUND
    | {"optim.lr": 1e-4, "optim.base_batch": 128, "optim.final_lr": 1e-4, "optim.warmup_epochs": 0.0, "optim.weight_decay": 1e-5}
    | {"train.epochs": 30.0, "train.global_batch": 128, "data.eval_clips": 8, "classifier.averaging": "logits"},
    "linear/kinetics400": INPUT
    | THREE_BY_THREE
    | UNMIXED
    | {
        f"{VIEW}.scale": (0.08, 1.0),
        f"{VIEW}.brightness": 0.4,
        f"{VIEW}.contrast": 0.4,
        f"{VIEW}.saturation": 0.4,
        f"{VIEW}.hue": 0.2,
    }
    | {"optim.lr": 0.01, "optim.base_batch": 1024, "optim.final_lr": 0.0, "optim.warmup_epochs": 10.0, "optim.weight_decay": 0.0}
    | {"train.epochs": 100.0, "train.global_batch": 1024, "classifier.dropout": 0.0},
    "linear/fsd50k": UNMIXED
    | {"data.clip_seconds": 4.0, f"{SOUND}.volume": 0.1, "data.eval_clips": 8, "classifier.averaging": "sigmoid"}
    | {"optim.lr": 1e-3, "optim.base_batch": 256, "optim.final_lr": 1e-3, "optim.warmup_epochs": 0.0, "optim.weight_decay": 1e-5}
    # 50 epochs of 10 clips a sample are 500 of one.
    | {"train.epochs": 500.0, "train.global_batch": 256, "data.train_clips": None, "classifier.dropout": 0.3},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_is_the_methods(protocol):
    config = load(f"eval/{protocol}.yaml", ["checkpoint=anything"], SCHEMAS)
    job, dataset = protocol.split("/")
    assert (config.job, config.dataset.name) == (job, dataset)
    found = flat(config.model_dump())
    assert {path: found[path] for path in PROTOCOLS[protocol]} == PROTOCOLS[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_asks_for_its_data_where_it_is_converted_to(protocol):
    config = load(f"eval/{protocol}.yaml", ["checkpoint=anything"], SCHEMAS)
    assert config.data.train
    assert bool(config.data.test) != bool(config.dataset.task.folds)
