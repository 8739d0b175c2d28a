"""Parameters and operations computed from a configuration, against the method's figures, the network and torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.model.tiny import SHAPES as TINY
from tests.model.tiny import tiny_model
from xkd.losses import LossConfig, LossWeights
from xkd.model.config import ModelConfig
from xkd.model.flops import cost
from xkd.model.xkd import XKD

VIEWS = {
    "video_shape": (3, 32, 112, 112),
    "audio_shape": (1, 80, 448),
    "local_video_shape": (3, 8, 96, 96),
    "local_audio_shape": (1, 80, 112),
}
WEIGHTS = LossWeights()
GFLOP = 1e9
# The released code's forward GFLOP of one sample, and what of them ours leaves out: it embeds every patch and predicts every token,
# though only 59 of 392 and 112 of 560 are visible. 2 operations a multiply-accumulate.
DENSE = {"video masked encoder": 12.2, "video decoder": 7.5, "audio masked encoder": 19.7, "audio decoder": 10.0}
SKIPPED = {
    "video masked encoder": 2 * (392 - 59) * 3072 * 768,
    "video decoder": 2 * 59 * 384 * 3072,
    "audio masked encoder": 2 * (560 - 112) * 64 * 768,
    "audio decoder": 2 * 112 * 384 * 64,
}
OURS = {"video masked encoder": 10.6, "video decoder": 7.3, "audio masked encoder": 19.7, "audio decoder": 10.0}


def base(**changes):
    return cost(ModelConfig(**changes), WEIGHTS, **VIEWS)


def on_meta(model, weights, shapes):
    """A network whose tensors have shapes only: the counter sees its operations, attention's products among them."""
    with torch.device("meta"):
        return XKD(model, LossConfig(weights=weights), **shapes, seed=0)


def batch_of(shapes, size, num_local_videos=1, num_local_audios=1):
    counts = {
        "video_shape": (),
        "local_video_shape": (num_local_videos,),
        "audio_shape": (),
        "local_audio_shape": (num_local_audios,),
    }
    return [
        None if shapes[name] is None else torch.empty(size, *count, *shapes[name], device="meta") for name, count in counts.items()
    ]


def counted(function, *args):
    with FlopCounterMode(display=False) as counter:
        result = function(*args)
    return counter.get_total_flops(), result


def test_the_base_has_the_methods_parameters():
    assert round(base().parameters / 1e6, 1) == 396.4
    assert round(base().trainable_parameters / 1e6, 1) == 206.3


@pytest.mark.parametrize("part", DENSE)
def test_masked_autoencoding_costs_the_dense_figures_less_the_skipped_work(part):
    flops = base().parts[part].forward_flops
    assert round(flops / GFLOP, 1) == OURS[part]
    assert round((flops + SKIPPED[part]) / GFLOP, 1) == DENSE[part]


def test_local_students_heads_and_teachers_cost_the_methods_figures():
    for view, video, audio in (("local", 13.0, 24.7), ("global", 74.3, 107.0)):
        parts = base(teacher_view=view).parts
        assert [round(parts[f"{modality} teacher"].forward_flops / GFLOP, 1) for modality in ("video", "audio")] == [video, audio]
    student = {m: parts[f"{m} local views"].forward_flops + parts[f"{m} head"].forward_flops for m in ("video", "audio")}
    assert {modality: round(flops / GFLOP, 1) for modality, flops in student.items()} == {"video": 13.0, "audio": 24.7}


@pytest.mark.parametrize(("view", "dense"), [("global", 442), ("local", 299)])
def test_a_step_costs_the_methods_figure_less_three_times_the_skipped_work(view, dense):
    assert round((base(teacher_view=view).step_flops + 3 * sum(SKIPPED.values())) / GFLOP) == dense


VARIANTS = [
    {},
    {"sharing": "student", "teacher_view": "local"},
    {"sharing": "both"},
    {"cls_token": False},
    {"cls_token": False, "sharing": "both", "teacher_view": "local"},
    {"projector": {"shared_norm": False, "num_layers": 4, "hidden_dim": 24, "out_dim": 40, "bottleneck_dim": 8}},
    {"video": {"tubelet": (2, 8, 8), "mask_ratio": 0.5}, "audio": {"patch": (16, 16), "mask_ratio": 0.3}},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_count_is_that_of_the_network_in_any_variant(changes):
    check(tiny_model(**{"video": {"tubelet": (4, 16, 16)}, **changes}), VIEWS, {})


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_every_count_is_that_of_the_network_at_any_size(size):
    check(ModelConfig(size=size), VIEWS, {})


@pytest.mark.parametrize(("num_local_videos", "num_local_audios"), [(3, 1), (1, 2), (0, 0)])
@pytest.mark.parametrize("weights", [{}, {"recon": 0}, {"cmkd": 0}], ids=str)
def test_local_views_and_terms_count_if_there_are_any(num_local_videos, num_local_audios, weights):
    shapes = TINY if num_local_videos else {**TINY, "local_video_shape": None, "local_audio_shape": None}
    check(tiny_model(), shapes, weights, num_local_videos, num_local_audios)


@pytest.mark.parametrize("cls_token", [True, False])
@pytest.mark.parametrize("teacher_view", ["global", "local"])
def test_every_part_costs_what_it_is_called(cls_token, teacher_view):
    model = ModelConfig(cls_token=cls_token, teacher_view=teacher_view)
    xkd, clips = on_meta(model, {"align": 0}, VIEWS), batch_of(VIEWS, 1)
    parts = {name: part.forward_flops for name, part in cost(model, WEIGHTS, **VIEWS).parts.items()}
    assert parts == {**count_parts(xkd, "video", *clips[:2]), **count_parts(xkd, "audio", *clips[2:])}


def count_parts(xkd, modality, clip, local):
    student, teacher = (xkd.get_submodule(f"{modality}_{role}") for role in ("student", "teacher"))
    mask, seen = xkd.draw_mask(modality, clip, 0, 0), local[:, 0] if xkd.model_config.teacher_view == "local" else clip
    masked_encoder, visible = counted(student.encoder, clip, mask.keep)
    decoder, _ = counted(student.decoder, visible, mask)
    local_views, feature = counted(student.encoder.features, local[:, 0])
    head, _ = counted(student.head, torch.cat([feature, feature]))
    teaching, _ = counted(lambda: (teacher.encoder(seen, with_attention=True), teacher.head(feature)))
    found = {"masked encoder": masked_encoder, "decoder": decoder, "local views": local_views, "head": head, "teacher": teaching}
    return {f"{modality} {part}": flops for part, flops in found.items()}


def test_a_step_counts_tokenizers_three_times_that_need_two():
    model, size = ModelConfig(), 2
    forward, output = counted(lambda: on_meta(model, {"align": 0}, VIEWS)(*batch_of(VIEWS, size), step=0))
    backward, _ = counted(output.loss.backward)
    tokenizers = 2 * 768 * ((59 + 72) * 3072 + (112 + 140) * 64)
    expected = cost(model, WEIGHTS, **VIEWS).step_flops
    assert forward + backward == size * (expected - tokenizers)
    assert 0.0014 < tokenizers / expected < 0.0015


def check(model, shapes, weights, num_local_videos=1, num_local_audios=1):
    """Without alignment: torch.autocast, which MMD turns off, knows no meta device."""
    size, weights = 2, {**weights, "align": 0}
    locals_ = {"num_local_videos": num_local_videos, "num_local_audios": num_local_audios}
    computed = cost(model, LossWeights(**weights), **shapes, **locals_)
    xkd = on_meta(model, weights, shapes)
    assert computed.parameters == sum(parameter.numel() for parameter in xkd.parameters())
    assert computed.trainable_parameters == sum(parameter.numel() for parameter in xkd.parameters() if parameter.requires_grad)
    flops, _ = counted(lambda: xkd(*batch_of(shapes, size, **locals_), step=0))
    assert flops == size * computed.forward_flops
