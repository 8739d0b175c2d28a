"""The configuration that a state dict shows is the one that it was written with, and what cannot be seen is asked for."""

import pytest
import torch

from tests.model.tiny import tiny_model
from tests.release.nets import VARIANTS, filled_xkd
from xkd.release.geometry import encoder_config, modality_of, model_config, projector_config
from xkd.release.keys import encoder_tensors, head_tensors, network_tensors


def read(state, **options):
    model = tiny_model()
    return model_config(state, source="file", heads=3, decoder_heads=2, video=model.video, audio=model.audio, **options)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_configuration_of_a_network_is_read_from_its_state(variant):
    state = network_tensors(filled_xkd(**variant))
    given = {"sharing": "both"} if variant["sharing"] == "both" else {}
    assert read(state, **given) == tiny_model(**variant)


@pytest.mark.parametrize(
    "projector",
    [
        {"hidden_dim": 10, "num_layers": 2, "bottleneck_dim": 5, "out_dim": 7},
        {"hidden_dim": 16, "num_layers": 4, "bottleneck_dim": 6, "out_dim": 24},
        {"hidden_dim": 16, "num_layers": 3, "bottleneck_dim": 6, "out_dim": 24, "shared_norm": False},
    ],
)
def test_the_shape_of_a_head_is_read_from_its_state(projector):
    xkd = filled_xkd(projector=projector)
    assert projector_config(head_tensors(xkd.audio_teacher.head), "file") == xkd.model_config.projector


def test_blocks_that_are_equal_in_pairs_ask_for_sharing():
    with pytest.raises(ValueError, match="give sharing, 'student' or 'both'"):
        read(network_tensors(filled_xkd(sharing="both")))


def test_a_width_without_a_name_asks_for_heads():
    state = encoder_tensors(filled_xkd().video_student.encoder)
    with pytest.raises(ValueError, match=r"file: the width 12 is not one of 192 \(tiny\), .*: give heads"):
        encoder_config(state, None, "file")
    with pytest.raises(ValueError, match="2 blocks of width 12 and heads=5 are no transformer"):
        encoder_config(state, 5, "file")


def test_one_damaged_tensor_does_not_change_the_width_that_is_read():
    state = dict(encoder_tensors(filled_xkd().video_student.encoder), enc_pos_embed=torch.zeros(1, 9, 13))
    assert encoder_config(state, 3, "file") == tiny_model().encoder


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda state: modality_of(state, "file"), "file: is no backbone of XKD, .* it has conv1.weight"),
        (lambda state: projector_config(state, "file"), "file: holds no head of XKD"),
        (lambda state: encoder_config(state, 3, "file"), "file: holds none of enc_pos_embed"),
    ],
)
def test_the_state_of_another_network_is_refused(read, message):
    with pytest.raises(ValueError, match=message):
        read({"conv1.weight": torch.zeros(3, 3)})
