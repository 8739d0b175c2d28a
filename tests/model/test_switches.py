"""Every field of the configurations of model and loss changes what a step does."""

import pytest

from tests.flat import flat
from tests.model.tiny import shake, tiny_batch, tiny_model, tiny_xkd
from xkd.losses import LossConfig
from xkd.model.config import ModelConfig
from xkd.train import ema

# Each field of the two configurations, and another value for it.
SWITCHES = {
    "model.size": "tiny",
    "model.encoder": {"dim": 24, "depth": 1, "heads": 2},
    "model.decoder": {"dim": 6, "depth": 2, "heads": 1},
    "model.sharing": "both",
    "model.shared_ema": "release",
    "model.teacher_view": "local",
    "model.refinement": "softmax",
    "model.cls_token": False,
    "model.position_std": 0.5,
    "model.video.tubelet": (1, 4, 4),
    "model.video.mask_ratio": 0.5,
    "model.audio.patch": (2, 4),
    "model.audio.mask_ratio": 0.3,
    "model.projector.hidden_dim": 8,
    "model.projector.num_layers": 2,
    "model.projector.bottleneck_dim": 4,
    "model.projector.out_dim": 16,
    "model.projector.shared_norm": False,
    "loss.weights.recon": 2.0,
    "loss.weights.cmkd": 2.0,
    "loss.weights.align": 0.0,
    "loss.norm_pix_loss": False,
    "loss.align_group": 2,
    "loss.student_temperature": "audio_for_both",
    "loss.video.student_temperature": 0.3,
    "loss.video.teacher_temperature": {"start": 0.2, "end": 0.3, "epochs": 2},
    "loss.video.center_momentum": 0.5,
    "loss.audio.student_temperature": 0.2,
    "loss.audio.teacher_temperature": 0.3,
    "loss.audio.center_momentum": 0.5,
}
# What a switch needs besides, with and without it, to have a meaning.
BESIDES = {
    "model.size": {"model.encoder": None, "model.size": "small"},
    "model.shared_ema": {"model.sharing": "both"},
    "loss.student_temperature": {"loss.video.student_temperature": 0.3},
}


# What changes memory, and no number.
UNSEEN = {"model.activation_checkpointing"}


def test_the_table_of_switches_has_every_field():
    fields = flat({"model": ModelConfig().model_dump(), "loss": LossConfig().model_dump()})
    assert [field for field in fields if field not in UNSEEN] == list(SWITCHES)


def configured(settings):
    trees = {"model": tiny_model().model_dump(exclude_unset=True), "loss": {"weights": {"recon": 5.0}}}
    for path, value in settings.items():
        *sections, name = path.split(".")
        tree = trees
        for section in sections:
            tree = tree.setdefault(section, {})
        tree[name] = value
    return tiny_xkd(weights=trees["loss"].pop("weights"), loss=trees["loss"], **trees["model"])


def outcome(settings):
    """What a step leaves behind: its losses, then teachers and centres after their update."""
    xkd = configured(settings)
    output = xkd(*tiny_batch(), step=0)
    shake(xkd)
    for modality, pairs in xkd.teacher_pairs().items():
        ema.update(pairs, {"video": 0.9, "audio": 0.5}[modality])
    xkd.update_centers(output.teacher_mean_video, output.teacher_mean_audio)
    return [output.loss.item(), *(teacher.double().sum().item() for teacher in xkd.state_dict().values())]


def test_without_a_change_the_outcome_is_the_same():
    assert outcome({}) == outcome({})


@pytest.mark.parametrize("path", SWITCHES)
def test_every_switch_is_heeded(path):
    besides = BESIDES.get(path, {})
    assert outcome(besides | {path: SWITCHES[path]}) != outcome(besides)
