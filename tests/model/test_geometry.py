"""Views that the network cannot work on are refused before it is built."""

import pytest

from tests.model.tiny import AUDIO, LOCAL_AUDIO, LOCAL_VIDEO, VIDEO, tiny_model
from xkd.model.config import ModelConfig
from xkd.model.geometry import check_views, token_grid, visible_tokens


def test_the_methods_views_have_the_methods_tokens():
    assert token_grid((3, 32, 112, 112), (4, 16, 16), "") == (8, 7, 7)
    assert token_grid((3, 8, 96, 96), (4, 16, 16), "") == (2, 6, 6)
    assert token_grid((1, 80, 448), (4, 16), "") == (1, 20, 28)
    assert visible_tokens(392, 0.85) == 59
    assert visible_tokens(560, 0.80) == 112


def test_the_defaults_fit_the_methods_views():
    check_views(ModelConfig(), (3, 32, 112, 112), (1, 80, 448), (3, 8, 96, 96), (1, 80, 112))


@pytest.mark.parametrize(
    ("changes", "views", "message"),
    [
        ({}, {0: (3, 4, 8, 10)}, "global video view: 4x8x10 cannot be cut into tokens of 2x4x4"),
        ({}, {1: (1, 9, 12)}, "global audio view: 9x12"),
        ({}, {2: (3, 3, 8, 4)}, "local video view: 3x8x4"),
        ({}, {3: (1, 8, 6)}, "local audio view: 8x6"),
        ({}, {3: (1, 4, 8)}, "4 mel bands, but the global one has 8"),
        ({"teacher_view": "local"}, {2: None}, "'local' needs a local video view"),
        ({"teacher_view": "local"}, {3: None}, "'local' needs a local audio view"),
        ({"video": {"tubelet": (2, 4, 4), "mask_ratio": 0.99}}, {}, "model.video.mask_ratio: 0.99 of 8 tokens"),
        ({"audio": {"patch": (4, 4), "mask_ratio": 0.01}}, {}, "model.audio.mask_ratio: 0.01 of 6 tokens"),
    ],
)
def test_a_view_that_does_not_fit_is_named(changes, views, message):
    shapes = [views.get(index, shape) for index, shape in enumerate((VIDEO, AUDIO, LOCAL_VIDEO, LOCAL_AUDIO))]
    with pytest.raises(ValueError, match=message):
        check_views(tiny_model(**changes), *shapes)
