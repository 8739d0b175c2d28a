"""The table of released names: complete, as the release has it, and strict about what does not fit."""

import pytest
import torch

from tests.release.nets import VARIANTS, equal, filled_xkd
from xkd.model.config import ENCODERS
from xkd.model.tokenizers import Tokenizer
from xkd.model.vit import Encoder, transformer_blocks
from xkd.release.keys import encoder_tensors, fill, head_tensors, network_tensors

BLOCK = {
    "norm1.weight": [768],
    "norm1.bias": [768],
    "attn.qkv.weight": [2304, 768],
    "attn.proj.weight": [768, 768],
    "attn.proj.bias": [768],
    "norm2.weight": [768],
    "norm2.bias": [768],
    "mlp.fc1.weight": [3072, 768],
    "mlp.fc1.bias": [3072],
    "mlp.fc2.weight": [768, 3072],
    "mlp.fc2.bias": [768],
}
REST = {
    "video": {"enc_pos_embed": [1, 393, 768], "cuboid_embed.proj.weight": [768, 3072], "cuboid_embed.proj.bias": [768]},
    "audio": {"enc_pos_embed": [1, 561, 768], "patch_embed.proj.weight": [768, 64], "patch_embed.proj.bias": [768]},
}
HEAD = {f"mlp.{place}.{name}" for place in (0, 1, 3, 4, 6) for name in ("weight", "bias")} | {
    "last_layer.weight_g",
    "last_layer.weight_v",
}
# Released names beside the places that they have here.
PLACES = {
    "vid_student.backbone.enc_pos_embed": "video_student.encoder.tokenizer.positions",
    "vid_teacher.backbone.cls_token": "video_teacher.encoder.tokenizer.cls_token",
    "aud_student.backbone.patch_embed.proj.weight": "audio_student.encoder.tokenizer.projection.weight",
    "aud_teacher.backbone.encoder.blocks.1.mlp.fc2.bias": "audio_teacher.encoder.blocks.1.mlp.fc2.bias",
    "vid_student.backbone.encoder_norm.weight": "video_student.encoder.norm.weight",
    "aud_student.head.mlp.1.weight": "audio_student.head.norms.0.weight",
    "aud_student.head.mlp.4.weight": "audio_student.head.norms.0.weight",
    "vid_teacher.head.mlp.3.bias": "video_teacher.head.layers.1.bias",
    "aud_teacher.head.mlp.6.weight": "audio_teacher.head.layers.2.weight",
    "vid_student.head.last_layer.weight_g": "video_student.head.gains",
    "vid_student.head.last_layer.weight_v": "video_student.head.directions",
    "vid_ae.encoder.encoder.blocks.0.norm1.weight": "video_student.encoder.blocks.0.norm1.weight",
    "vid_ae.dec_pos_embed": "video_student.decoder.positions",
    "aud_ae.mask_token": "audio_student.decoder.mask_token",
    "aud_ae.mid_proj.weight": "audio_student.decoder.embedding.weight",
    "vid_ae.decoder.blocks.0.attn.qkv.weight": "video_student.decoder.blocks.0.attn.qkv.weight",
    "vid_ae.out_proj.bias": "video_student.decoder.prediction.bias",
    "vt2as_ce_loss.center": "video_teacher.center",
    "at2vs_ce_loss.center": "audio_teacher.center",
}


def state_of(xkd):
    return {key: tensor.detach().clone() for key, tensor in network_tensors(xkd).items()}


@pytest.mark.parametrize(
    ("modality", "shape", "patch"), [("video", (3, 32, 112, 112), (4, 16, 16)), ("audio", (1, 80, 448), (4, 16))]
)
def test_a_base_backbone_has_the_138_released_keys_and_shapes(modality, shape, patch):
    with torch.device("meta"):
        encoder = Encoder(Tokenizer(shape, patch, 768, True, "view"), transformer_blocks(ENCODERS["base"]), 768)
    expected = {"cls_token": [1, 1, 768], "encoder_norm.weight": [768], "encoder_norm.bias": [768], **REST[modality]}
    expected |= {f"encoder.blocks.{i}.{name}": sides for i in range(12) for name, sides in BLOCK.items()}
    assert len(expected) == 138
    assert {key: list(tensor.shape) for key, tensor in encoder_tensors(encoder).items()} == expected


def test_a_head_has_the_released_keys():
    assert head_tensors(filled_xkd().video_teacher.head).keys() == HEAD


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_tensor_of_the_network_has_a_released_key(variant):
    xkd = filled_xkd(**variant)
    storages = [{tensor.data_ptr() for tensor in tensors.values()} for tensors in (xkd.state_dict(), network_tensors(xkd))]
    assert storages[0] == storages[1]


@pytest.mark.parametrize(("key", "place"), PLACES.items())
def test_a_released_key_fills_its_place(key, place):
    xkd = filled_xkd()
    state = state_of(xkd)
    new = torch.randn_like(state[key])
    same = network_tensors(xkd)[key].data_ptr()
    state |= {twin: new for twin, tensor in network_tensors(xkd).items() if tensor.data_ptr() == same}
    fill(network_tensors(xkd), state, "file")
    torch.testing.assert_close(xkd.state_dict()[place], new.view_as(xkd.state_dict()[place]), rtol=0, atol=0)


def test_the_table_holds_the_parameters_themselves():
    xkd = filled_xkd()
    assert network_tensors(xkd)["vid_ae.mask_token"] is xkd.video_student.decoder.mask_token


def test_one_error_names_every_fault_and_nothing_is_changed():
    xkd = filled_xkd()
    before, state = filled_xkd(), state_of(filled_xkd(seed=4))
    block = "vid_teacher.backbone.encoder.blocks"
    state["stranger"] = torch.zeros(1)
    state["aud_teacher.backbone.patch_embed.proj.weight"] = torch.zeros(12, 5)
    state["aud_teacher.head.mlp.0.bias"] = torch.zeros(16, dtype=torch.int64)
    state["vt2as_ce_loss.center"][0, 3] = torch.inf
    del state[f"{block}.0.norm1.bias"], state[f"{block}.1.mlp.fc1.weight"]
    with pytest.raises(ValueError) as raised:
        fill(network_tensors(xkd), state, "some file", "Fix it.")
    assert str(raised.value).splitlines() == [
        "some file: does not fit the network:",
        f"  missing: {block}.0.norm1.bias, {block}.1.mlp.fc1.weight",
        "  unexpected: stranger",
        "  mis-shaped: aud_teacher.backbone.patch_embed.proj.weight is [12, 5] instead of [12, 16]",
        "  not floating point: aud_teacher.head.mlp.0.bias is torch.int64",
        "  not finite: vt2as_ce_loss.center",
        "Fix it.",
    ]
    assert equal(xkd, before)


@pytest.mark.parametrize(
    ("sharing", "key", "twin"),
    [
        ("none", "vid_student.head.mlp.4.weight", "vid_student.head.mlp.1.weight"),
        ("none", "aud_ae.encoder.cls_token", "aud_student.backbone.cls_token"),
        ("student", "aud_student.backbone.encoder.blocks.1.norm2.bias", "vid_student.backbone.encoder.blocks.1.norm2.bias"),
        ("both", "aud_teacher.backbone.encoder.blocks.0.norm2.bias", "vid_teacher.backbone.encoder.blocks.0.norm2.bias"),
    ],
)
def test_two_values_for_one_tensor_are_refused(sharing, key, twin):
    xkd = filled_xkd(sharing=sharing)
    state = state_of(xkd)
    state[key] = state[key] + 1
    with pytest.raises(ValueError, match="of two values: .*" + f"{key} and {twin}".replace(".", r"\.")):
        fill(network_tensors(xkd), state, "file")


def test_a_head_with_a_norm_a_layer_is_filled_from_both():
    xkd = filled_xkd(projector={"hidden_dim": 16, "bottleneck_dim": 6, "out_dim": 24, "shared_norm": False})
    norms = xkd.video_student.head.norms
    assert [norm.weight for norm in norms] == [head_tensors(xkd.video_student.head)[f"mlp.{place}.weight"] for place in (1, 4)]
