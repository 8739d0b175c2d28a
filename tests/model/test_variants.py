"""Every combination of variants against the method written out in full, in float64."""

import itertools

import pytest
import torch

from tests.model.tiny import shake, tiny_batch, tiny_xkd
from xkd.benchmarks import straightforward
from xkd.benchmarks.straightforward import encode, refine
from xkd.model.output import LossParts, Statistics
from xkd.model.xkd import OTHER
from xkd.train import ema


def shaken(**changes):
    """A network whose four parts differ and whose centres are not 0."""
    xkd = tiny_xkd(dtype=torch.float64, **changes)
    shake(xkd)
    for seed, teacher in enumerate((xkd.video_teacher, xkd.audio_teacher)):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in teacher.requires_grad_(True).parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
            teacher.requires_grad_(False).center.copy_(0.2 * torch.randn(24, generator=generator))
    return xkd


def compare(xkd, batch):
    generator = torch.Generator().manual_seed(7)
    noise = {
        modality: torch.rand(4, xkd.get_submodule(f"{modality}_student").encoder.tokenizer.num_tokens, generator=generator)
        for modality in OTHER
    }
    found = xkd(*batch, step=0, noise_video=noise["video"], noise_audio=noise["audio"])
    expected, _ = straightforward.forward(xkd, batch, noise)
    total = expected.pop("loss")
    torch.testing.assert_close(found.parts, {name: part.detach() for name, part in expected.items()}, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.loss, total, rtol=1e-9, atol=1e-12)
    params = {name: parameter for name, parameter in xkd.named_parameters() if parameter.requires_grad}
    gradients = [torch.autograd.grad(loss, list(params.values()), materialize_grads=True) for loss in (found.loss, total)]
    for name, ours, theirs in zip(params, *gradients, strict=True):
        assert (ours - theirs).norm() <= 1e-8 * theirs.norm() + 1e-13, name


GRID = list(itertools.product(("none", "student", "both"), ("global", "local"), ("mean", "softmax", "none")))


@pytest.mark.parametrize(("sharing", "teacher_view", "refinement"), GRID)
def test_losses_and_gradients_are_those_of_the_method_written_out(sharing, teacher_view, refinement):
    xkd = shaken(sharing=sharing, teacher_view=teacher_view, refinement=refinement)
    compare(xkd, tiny_batch(local_videos=3, local_audios=2, dtype=torch.float64))


@pytest.mark.parametrize(
    "changes",
    [
        {"cls_token": False},
        {"cls_token": False, "refinement": "softmax", "sharing": "both", "teacher_view": "local"},
        {"loss": {"norm_pix_loss": False}},
        {"loss": {"student_temperature": "audio_for_both", "video": {"student_temperature": 0.3}}},
        {"loss": {"video": {"student_temperature": 0.3, "teacher_temperature": 0.2}}},
        {"projector": {"hidden_dim": 16, "bottleneck_dim": 6, "out_dim": 24, "shared_norm": False}},
        {"projector": {"hidden_dim": 16, "bottleneck_dim": 6, "out_dim": 24, "num_layers": 5}},
        *({"video": {"tubelet": tubelet, "mask_ratio": 0.5}} for tubelet in [(1, 4, 4), (2, 8, 4), (2, 2, 1), (1, 1, 4)]),
        *({"audio": {"patch": patch, "mask_ratio": 0.6}} for patch in [(8, 1), (1, 4), (2, 2)]),
    ],
    ids=str,
)
def test_any_tubelet_patch_and_switch_too(changes):
    compare(shaken(**changes), tiny_batch(dtype=torch.float64))


def test_the_output_names_its_parts_and_statistics():
    output = tiny_xkd()(*tiny_batch(), step=0)
    assert output.parts.keys() == LossParts.__annotations__.keys()
    assert output.stats.keys() == Statistics.__annotations__.keys()


def test_the_statistics_are_those_of_their_definitions():
    xkd, batch = shaken(), tiny_batch(dtype=torch.float64)
    output = xkd(*batch, step=0)
    for modality, clip in (("video", batch[0]), ("audio", batch[2])):
        student, teacher = (getattr(xkd, f"{modality}_{role}") for role in ("student", "teacher"))
        visible, _ = encode(student.encoder, clip, xkd.draw_mask(modality, clip, 0, 0).keep)
        feature = visible[:, 1:].mean(1)
        torch.testing.assert_close(output.stats[f"feature_std_{modality}"].double(), feature.std(0, correction=0).mean())
        torch.testing.assert_close(output.stats[f"center_norm_{modality}"], teacher.center.square().sum().sqrt())
    video, video_matrix = encode(xkd.video_teacher.encoder, batch[0])
    audio, audio_matrix = encode(xkd.audio_teacher.encoder, batch[2])
    rows = video_matrix[:, :, 0, 1:], audio_matrix[:, :, 0, 1:]
    outputs = {
        "video": xkd.video_teacher.head(refine(video[:, 1:], *rows, "mean")),
        "audio": xkd.audio_teacher.head(refine(audio[:, 1:], *rows[::-1], "mean")),
    }
    for modality, temperature in (("video", 0.1), ("audio", 0.07)):
        p = ((outputs[modality] - getattr(xkd, f"{modality}_teacher").center) / temperature).softmax(-1)
        torch.testing.assert_close(output.stats[f"teacher_entropy_{modality}"], -(p * p.log()).sum(-1).mean())


@pytest.mark.parametrize("sharing", ["none", "student", "both"])
def test_momentum_one_keeps_the_teachers_and_zero_makes_them_the_students(sharing):
    xkd = shaken(sharing=sharing)
    pairs = [pair for of_modality in xkd.teacher_pairs().values() for pair in of_modality]
    before = [teacher.clone() for teacher, _ in pairs]
    assert not any(torch.equal(teacher, student) for teacher, student in pairs if student.requires_grad)
    ema.update(pairs, 1.0)
    assert all(torch.equal(teacher, kept) for (teacher, _), kept in zip(pairs, before, strict=True))
    ema.update(pairs, 0.0)
    assert all(torch.equal(teacher, student) for teacher, student in pairs)
