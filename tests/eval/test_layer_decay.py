import pytest
import torch

from xkd.eval.classifier import Classifier
from xkd.eval.layer_decay import param_groups
from xkd.model.config import ENCODERS
from xkd.model.tokenizers import Tokenizer
from xkd.model.vit import Encoder, transformer_blocks

# Layers of a base encoder, as the method counts them (section 4).
LAYERS = {
    "encoder.tokenizer.cls_token": 0,
    "encoder.tokenizer.positions": 0,
    "encoder.tokenizer.projection.weight": 0,
    "encoder.tokenizer.projection.bias": 0,
    **{f"encoder.blocks.{block}.attn.qkv.weight": block + 1 for block in range(12)},
    **{f"encoder.blocks.{block}.norm1.weight": block + 1 for block in range(12)},
    **{f"encoder.blocks.{block}.mlp.fc2.bias": block + 1 for block in range(12)},
    "encoder.norm.weight": 13,
    "encoder.norm.bias": 13,
    "head.weight": 13,
    "head.bias": 13,
}


def base_classifier(frozen=False):
    with torch.device("meta"):
        tokenizer = Tokenizer((3, 32, 112, 112), (4, 16, 16), 768, True, "video view")
        return Classifier(Encoder(tokenizer, transformer_blocks(ENCODERS["base"]), 768), 101, frozen=frozen)


def settings_of(classifier, **decays):
    """{parameter: (lr_scale, weight_decay)}"""
    names = {param: name for name, param in classifier.named_parameters()}
    groups = param_groups(classifier, **decays)
    found = [(names[param], (group["lr_scale"], group["weight_decay"])) for group in groups for param in group["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize("layer_decay", [0.45, 0.65, 0.75])
def test_the_scale_of_a_layer_is_the_decay_to_the_power_of_its_distance_from_the_head(layer_decay):
    found = settings_of(base_classifier(), weight_decay=0.05, layer_decay=layer_decay)
    scales = {name: found[name][0] for name in LAYERS}
    assert scales == pytest.approx({name: layer_decay ** (13 - layer) for name, layer in LAYERS.items()})


def test_every_trained_parameter_is_in_one_group_and_only_matrices_and_tokens_are_decayed():
    classifier = base_classifier()
    found = settings_of(classifier, weight_decay=0.05, layer_decay=0.75)
    assert found.keys() == dict(classifier.named_parameters()).keys()
    decayed = {name for name, (_, decay) in found.items() if decay}
    assert decayed == {name for name, param in classifier.named_parameters() if param.ndim > 1}
    assert {found[name][1] for name in decayed} == {0.05}


def test_of_a_frozen_encoder_only_the_head_is_trained_at_the_full_rate():
    found = settings_of(base_classifier(frozen=True), weight_decay=0.0, layer_decay=1.0)
    assert found == {"head.weight": (1.0, 0.0), "head.bias": (1.0, 0.0)}
