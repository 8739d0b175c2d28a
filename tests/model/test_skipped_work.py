"""What is never computed: masked patches, attention matrices, the product of the modalities' tokens."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.model.tiny import tiny_batch, tiny_xkd
from xkd.model.refinement import token_weights

# A network whose numbers of tokens (local views: 18 and 6) are unlike each other and any width, class token or not.
SHAPES = {
    "video_shape": (3, 6, 12, 12),
    "audio_shape": (1, 12, 20),
    "local_video_shape": (3, 4, 12, 12),
    "local_audio_shape": (1, 12, 8),
}
SIZES = {
    "decoder": {"dim": 10, "depth": 1, "heads": 2},
    "audio": {"patch": (4, 4), "mask_ratio": 0.66},
    "projector": {"hidden_dim": 40, "bottleneck_dim": 9, "out_dim": 24},
}
WHOLE = {"video": 27, "audio": 15}
VISIBLE = {"video": 7, "audio": 5}
BATCH = 5  # with which no matrix of MMD (4 or 2 rows a sample) is as large as one of attention


class Shapes(TorchDispatchMode):
    """The shapes of all tensors that an operation returns, views too."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.found |= {tuple(x.shape) for x in (out if isinstance(out, tuple | list) else [out]) if isinstance(x, torch.Tensor)}
        return out


def batch():
    return tuple(
        torch.randn(BATCH, *extra, *SHAPES[name])
        for name, extra in (("video_shape", ()), ("local_video_shape", (1,)), ("audio_shape", ()), ("local_audio_shape", (1,)))
    )


def shapes_of_a_step(teacher_view="global", **changes):
    xkd = tiny_xkd(shapes=SHAPES, teacher_view=teacher_view, **SIZES, **changes)
    with Shapes() as shapes:
        xkd(*batch(), step=0).loss.backward()
    return shapes.found


@pytest.mark.parametrize("refinement", ["mean", "softmax"])
@pytest.mark.parametrize("teacher_view", ["global", "local"])
def test_the_product_of_the_modalities_tokens_is_never_formed(refinement, teacher_view):
    counts = (27, 15) if teacher_view == "global" else (18, 6)
    found = shapes_of_a_step(teacher_view, refinement=refinement)
    assert any(counts[0] in shape for shape in found)  # the trace sees the teachers
    assert not [shape for shape in found if set(counts) <= set(shape) or math.prod(counts) in shape]


@pytest.mark.parametrize("mode", ["mean", "softmax", "none"])
def test_refinement_needs_memory_for_one_modality_at_a_time(mode):
    attention, other = torch.rand(1, 2, 1999).softmax(-1), torch.rand(1, 2, 2003).softmax(-1)
    with Shapes() as shapes:
        token_weights(attention, other, mode)
    assert max(map(math.prod, shapes.found)) <= 2 * 2003


def test_no_attention_matrix_is_formed():
    found = shapes_of_a_step()
    for count in (*WHOLE.values(), *VISIBLE.values(), 18, 6):
        assert not [shape for shape in found if shape[-2:] == (count + 1, count + 1)]


def test_masked_patches_are_cut_for_the_target_only_and_never_embedded():
    """With local teachers no network needs all patches of a global view."""
    found = shapes_of_a_step(teacher_view="local")
    width, values = 12, {"video": 2 * 4 * 4 * 3, "audio": 4 * 4}
    for modality, count in WHOLE.items():
        hidden = count - VISIBLE[modality]
        assert (BATCH, VISIBLE[modality], values[modality]) in found
        assert (BATCH, hidden, values[modality]) in found  # the target
        assert (BATCH, count, values[modality]) not in found
        assert not {(BATCH, rows, width) for rows in (count, count + 1, hidden)} & found


def test_the_decoder_predicts_masked_tokens_only():
    xkd = tiny_xkd()
    rows = []
    for modality in ("video", "audio"):
        xkd.get_submodule(f"{modality}_student.decoder.prediction").register_forward_hook(lambda *a: rows.append(a[2].shape[1]))
    xkd(*tiny_batch(), step=0)
    assert rows == [6, 3]  # of 8 and 6 tokens


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_nan_in_masked_patches_reaches_the_reconstruction_target_and_nothing_else(modality):
    xkd, views = tiny_xkd(teacher_view="local"), dict(zip(("video", "_", "audio", "__"), tiny_batch(), strict=True))
    clip, tokenizer = views[modality], xkd.get_submodule(f"{modality}_student").encoder.tokenizer
    hidden = xkd.draw_mask(modality, clip, 0, 0).mask[..., None].expand(-1, -1, tokenizer.projection.in_features)
    before = xkd(*views.values(), step=0)
    views[modality] = clip.masked_fill(tokenizer.unpatchify(hidden, like=clip), torch.nan)
    after = xkd(*views.values(), step=0)
    reached = {name for name, part in after.parts.items() if part.isnan()}
    assert reached == {"recon", f"recon_{modality}"}
    for name in before.parts.keys() - reached:
        assert torch.equal(after.parts[name], before.parts[name]), name
    assert all(torch.equal(after.stats[name], before.stats[name]) for name in before.stats)
    assert torch.equal(after.teacher_mean_video, before.teacher_mean_video)
