"""Maps of attention: what is drawn is what the teachers' weighting computes."""

import math

import pytest
import torch

from xkd.model.refinement import token_weights
from xkd.visualize.attention import _heated, attention, token_maps
from xkd.visualize.clips import Clips


def encoders_of(architecture, **model):
    net = architecture.model_copy(update={"model": architecture.model.model_copy(update=model)}).build(seed=0)
    return {"video": net.video_teacher.encoder, "audio": net.audio_teacher.encoder}


@pytest.fixture
def views(architecture):
    generator = torch.Generator().manual_seed(0)
    shapes = {"video": architecture.data.video_shape, "audio": architecture.data.audio_shape}
    return {modality: torch.randn(2, *shape, generator=generator) for modality, shape in shapes.items()}


@pytest.mark.parametrize("cls_token", [True, False])
def test_maps_are_the_mean_over_heads_and_the_weights_of_the_method_up_to_scale(architecture, views, cls_token):
    encoders = encoders_of(architecture, cls_token=cls_token)
    maps = token_maps(encoders, views, "mean")
    heads = {modality: encoder(views[modality], with_attention=True)[1].detach() for modality, encoder in encoders.items()}
    for modality, other in (("video", "audio"), ("audio", "video")):
        wanted = {"attention": heads[modality].mean(1), "refined": token_weights(heads[modality], heads[other], "mean")}
        for name, weights in wanted.items():
            found = maps[name][modality]
            torch.testing.assert_close(found.mean(1), torch.ones(2))
            torch.testing.assert_close(found / found[:, :1], weights / weights[:, :1])


def test_there_is_nothing_refined_to_show_without_refinement_or_without_the_other_modality(architecture, views):
    encoders = encoders_of(architecture)
    assert list(token_maps(encoders, views, "none")) == ["attention"]
    assert list(token_maps({"video": encoders["video"]}, views, "mean")) == ["attention"]


def test_a_token_is_red_where_it_counts_more_and_blue_where_less_than_the_mean(architecture, views):
    encoder, clip = encoders_of(architecture)["audio"], torch.zeros(architecture.data.audio_shape)
    weights = torch.ones(encoder.tokenizer.num_tokens)
    weights[0], weights[-1] = 4, 1 / 4
    picture = _heated(encoder, clip, weights, architecture.data)  # a patch is one column of all bands
    first, middle, last = picture[0, 0], picture[0, picture.shape[1] // 2], picture[0, -1]
    assert first[0] > 2 * first[2]
    assert last[2] > 2 * last[0]
    assert math.isclose(middle[0], middle[2], abs_tol=0.02)


def test_the_picture_names_the_backbone_the_query_and_the_refinement(architecture, views):
    clips = Clips(views, ["one", "two"])
    figure = attention(encoders_of(architecture), clips, architecture.data, "teacher", "mean")
    title = figure.get_suptitle()
    assert "Attention of the teachers: how much the class token" in title
    assert "(refinement: mean)" in title
    figure = attention(encoders_of(architecture, cls_token=False), clips, architecture.data, "student", "none")
    assert "students: how much all tokens, on average," in figure.get_suptitle()
    assert "Refined" not in figure.get_suptitle()
