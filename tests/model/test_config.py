"""The table of sizes, and settings that contradict each other."""

import pytest
from pydantic import ValidationError

from xkd.model.config import DECODERS, ENCODERS, ModelConfig, TransformerConfig

# method.md, section 1
SIZES = {
    "tiny": ((192, 12, 3), (96, 4, 3)),
    "small": ((384, 12, 6), (192, 4, 6)),
    "base": ((768, 12, 12), (384, 4, 12)),
    "large": ((1024, 24, 16), (512, 8, 16)),
}


def as_row(shape):
    return (shape.dim, shape.depth, shape.heads)


def test_the_sizes_are_the_methods():
    assert {name: (as_row(ENCODERS[name]), as_row(DECODERS[name])) for name in ENCODERS} == SIZES


@pytest.mark.parametrize("size", SIZES)
def test_a_size_names_both_shapes_and_an_explicit_one_replaces_its_own(size):
    explicit = TransformerConfig(dim=8, depth=1, heads=2)
    config = ModelConfig(size=size, decoder=explicit)
    assert as_row(config.encoder_shape) == SIZES[size][0]
    assert config.decoder_shape == explicit


def test_without_a_word_the_size_is_base():
    assert as_row(ModelConfig().encoder_shape) == SIZES["base"][0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": {"dim": 10, "depth": 1, "heads": 3}}, "heads 3 does not divide dim 10"),
        (
            {"size": "tiny", "encoder": {"dim": 8, "depth": 1, "heads": 2}, "decoder": {"dim": 8, "depth": 1, "heads": 2}},
            "size 'tiny' has no effect",
        ),
        ({"sharing": "student", "shared_ema": "release"}, "shared_ema: 'release' has no effect with sharing 'student'"),
        ({"sharing": "students"}, "'none', 'student' or 'both'"),
        ({"video": {"mask_ratio": 1.0}}, "less than 1"),
        ({"patch": (4, 16)}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(fields)
