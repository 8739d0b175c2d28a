"""One step of XKD: which terms are computed, what they depend on, and that ranks and views change nothing they should not."""

import threading

import pytest
import torch

from tests.model.tiny import LOCAL_AUDIO, SHAPES, VIDEO, shake, tiny_batch, tiny_xkd
from xkd.kernels.masked_recon_loss import masked_recon_loss
from xkd.losses import Ranks
from xkd.model.xkd import OTHER

TERMS = {
    "recon": {"recon", "recon_video", "recon_audio"},
    "cmkd": {"cmkd", "v2a", "a2v"},
    "align": {"align", "align_student", "align_teacher"},
}
WEIGHTS = [{"recon": r, "cmkd": c, "align": a} for r in (0.0, 5.0) for c in (0.0, 0.1) for a in (0.0, 2.0) if r or c or a]
ONLY_RECON = {"recon": 1.0, "cmkd": 0.0, "align": 0.0}


def shaken(**changes):
    xkd = tiny_xkd(dtype=torch.float64, **changes)
    shake(xkd)
    return xkd


def run(xkd, batch, *, step=0, first_row=0, **options):
    output = xkd(*batch, step=step, first_row=first_row, **options)
    output.loss.backward()
    return output


def gradients(xkd):
    return {name: p.grad for name, p in xkd.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_a_term_of_weight_zero_is_not_computed(weights):
    xkd = tiny_xkd(weights=weights)
    ran = set()
    for name in ("video_student.decoder", "audio_student.head", "video_teacher.encoder", "audio_teacher.head"):
        xkd.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.add(name))
    output = run(xkd, tiny_batch())
    expected = {"video_student.decoder"} if weights["recon"] else set()
    if weights["cmkd"] or weights["align"]:
        expected |= {"audio_student.head", "video_teacher.encoder", "audio_teacher.head"}
    assert ran == expected
    assert set(output.parts) == set().union(*(TERMS[name] for name, weight in weights.items() if weight))


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_the_loss_is_the_weighted_mean_of_its_terms(weights):
    output = run(tiny_xkd(weights=weights), tiny_batch())
    used = {name: weight for name, weight in weights.items() if weight}
    expected = sum(weight * output.parts[name] for name, weight in used.items()) / sum(used.values())
    torch.testing.assert_close(output.loss.detach(), expected)
    for name in used:
        whole, *halves = sorted(TERMS[name], key=lambda part: part != name)
        torch.testing.assert_close(output.parts[whole], sum(output.parts[half] for half in halves) / 2)


def test_reconstruction_alone_is_two_masked_autoencoders():
    xkd, batch = shaken(weights=ONLY_RECON), tiny_batch(dtype=torch.float64)
    output = run(xkd, batch, step=3, first_row=8)
    found = gradients(xkd)
    xkd.zero_grad()
    losses = []
    for modality, clip, volume in (("video", batch[0], batch[0]), ("audio", batch[2], batch[2][:, :, None])):
        student, mask = getattr(xkd, f"{modality}_student"), xkd.draw_mask(modality, clip, 3, 8)
        predicted = student.decoder(student.encoder(clip, mask.keep), mask)
        losses.append(masked_recon_loss(volume, mask.drop, predicted, student.encoder.tokenizer.patch))
    alone = sum(losses) / 2
    alone.backward()
    torch.testing.assert_close(output.loss, alone)
    expected = gradients(xkd)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], msg=name)


def test_every_trainable_parameter_and_no_other_receives_a_gradient():
    xkd = shaken()
    run(xkd, tiny_batch(dtype=torch.float64))
    for name, parameter in xkd.named_parameters():
        trained = "_student." in name and not name.endswith("gains")
        assert parameter.requires_grad == trained, name
        assert (parameter.grad is not None and parameter.grad.abs().max() > 0) == trained, name


@pytest.mark.parametrize(("local_videos", "local_audios"), [(0, 0), (3, 1), (0, 2)])
def test_any_number_of_local_views_may_be_given(local_videos, local_audios):
    output = run(tiny_xkd(), tiny_batch(local_videos=local_videos, local_audios=local_audios))
    assert output.loss.isfinite()


@pytest.mark.parametrize("teacher_view", ["global", "local"])
def test_teachers_see_the_view_they_are_given_and_no_other(teacher_view):
    xkd = shaken(teacher_view=teacher_view)
    shake(xkd.video_teacher)
    batch = tiny_batch(dtype=torch.float64)
    before = xkd(*batch, step=0).teacher_mean_video
    changed_global = xkd(batch[0] + 1e-3 * torch.randn(4, *VIDEO), *batch[1:], step=0).teacher_mean_video
    changed_local = xkd(batch[0], batch[1] + 1e-3 * torch.randn_like(batch[1]), *batch[2:], step=0).teacher_mean_video
    assert torch.equal(before, changed_global) == (teacher_view == "local")
    assert torch.equal(before, changed_local) == (teacher_view == "global")


def test_step_and_position_decide_the_masks():
    xkd, batch = tiny_xkd(weights=ONLY_RECON), tiny_batch()
    losses = [xkd(*batch, step=step, first_row=row).loss.item() for step, row in ((0, 0), (1, 0), (0, 4), (0, 0))]
    assert losses[0] == losses[3]
    assert len(set(losses)) == 3


def test_a_step_held_in_a_tensor_draws_the_masks_of_the_number():
    xkd, batch = tiny_xkd(), tiny_batch()
    number, tensor = (xkd(*batch, step=step, first_row=3).loss for step in (5, torch.tensor(5)))
    assert torch.equal(number, tensor)


def test_given_noise_replaces_the_draw():
    xkd, batch = tiny_xkd(weights=ONLY_RECON), tiny_batch()
    noise = {"noise_video": torch.rand(4, 8), "noise_audio": torch.rand(4, 6)}
    assert xkd(*batch, step=0, **noise).loss == xkd(*batch, step=1, **noise).loss


def rows(batch, start, stop):
    return tuple(view[start:stop] for view in batch)


class Meeting:
    """Two ranks as two threads, which meet to hand each other what they have."""

    def __init__(self):
        self.barrier, self.parts = threading.Barrier(2), [None, None]

    def ranks_of(self, rank):
        def gather(own):
            self.parts[rank] = own
            self.barrier.wait()
            parts = torch.stack(self.parts)
            self.barrier.wait()
            return parts

        return Ranks(rank, 2, gather, lambda values: gather(values).sum(0))

    def run(self, task):
        threads = [threading.Thread(target=task, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("group", ["global", 2])
@pytest.mark.parametrize("sharing", ["none", "both"])
def test_two_ranks_average_to_one_process(group, sharing):
    batch = tiny_batch(8, local_videos=2, dtype=torch.float64)
    variant = {"sharing": sharing, "loss": {"align_group": group}}
    alone = shaken(**variant)
    whole = run(alone, batch, step=7)
    meeting, outputs = Meeting(), [None, None]
    ranks = [shaken(**variant, ranks=meeting.ranks_of(rank)) for rank in (0, 1)]

    def step(rank):
        outputs[rank] = run(ranks[rank], rows(batch, 4 * rank, 4 * rank + 4), step=7, first_row=4 * rank)

    meeting.run(step)
    averages = {name: (outputs[0].parts[name] + outputs[1].parts[name]) / 2 for name in whole.parts}
    torch.testing.assert_close(averages, whole.parts)
    torch.testing.assert_close((outputs[0].teacher_mean_video + outputs[1].teacher_mean_video) / 2, whole.teacher_mean_video)
    expected, halves = gradients(alone), [gradients(rank) for rank in ranks]
    for name, gradient in expected.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, gradient, msg=name)


def test_a_batch_that_would_split_a_group_is_refused():
    xkd = tiny_xkd(loss={"align_group": 3})
    with pytest.raises(ValueError, match="align_group: 3 does not divide the 4 samples"):
        xkd(*tiny_batch(), step=0)


def test_a_global_view_of_another_size_is_refused():
    """Local views may have any size; the decoder has positions for the global view's only."""
    video, *rest = tiny_batch()
    with pytest.raises(ValueError, match="global video view: has 3x2x2 tokens, but the network was built for 2x2x2"):
        tiny_xkd()(torch.cat([video, video[:, :, :2]], dim=2), *rest, step=0)


def test_centres_follow_the_teachers_means():
    xkd = tiny_xkd(loss={"video": {"center_momentum": 0.9}, "audio": {"center_momentum": 0.25}})
    centers = {modality: torch.zeros(24) for modality in OTHER}
    for step in range(3):
        output = xkd(*tiny_batch(seed=step), step=step)
        xkd.update_centers(output.teacher_mean_video, output.teacher_mean_audio)
        centers["video"] = 0.9 * centers["video"] + 0.1 * output.teacher_mean_video
        centers["audio"] = 0.25 * centers["audio"] + 0.75 * output.teacher_mean_audio
        torch.testing.assert_close(xkd.video_teacher.center, centers["video"])
        torch.testing.assert_close(xkd.audio_teacher.center, centers["audio"])
    assert centers["video"].norm() > 0


@pytest.mark.parametrize("weights", [ONLY_RECON, {"recon": 1.0, "cmkd": 0.0, "align": 1.0}])
def test_without_distillation_centres_stay(weights):
    xkd = tiny_xkd(weights=weights)
    xkd.video_teacher.center.fill_(0.3)
    output = xkd(*tiny_batch(), step=0)
    xkd.update_centers(output.teacher_mean_video, output.teacher_mean_audio)
    assert torch.equal(xkd.video_teacher.center, torch.full((24,), 0.3))


def test_the_teachers_temperature_can_be_given_a_step():
    xkd = tiny_xkd(loss={"video": {"teacher_temperature": {"start": 0.09, "end": 0.11, "epochs": 30}}})
    default, same, other = (xkd(*tiny_batch(), step=0, teacher_temperature_video=value).parts for value in (None, 0.09, 0.11))
    assert default == same
    assert default["v2a"] != other["v2a"]
    assert default["a2v"] == other["a2v"]


def expected_pairs(xkd, modality):
    teacher, student = (getattr(xkd, f"{modality}_{role}") for role in ("teacher", "student"))
    return {id(teacher.get_parameter(name)): id(student.get_parameter(name)) for name, _ in teacher.named_parameters()}


@pytest.mark.parametrize(("sharing", "shared_ema"), [("none", "once"), ("student", "once"), ("both", "once"), ("both", "release")])
def test_each_teacher_tensor_follows_its_namesake(sharing, shared_ema):
    xkd = tiny_xkd(sharing=sharing, shared_ema=shared_ema)
    pairs = {modality: {id(t): id(s) for t, s in pairs} for modality, pairs in xkd.teacher_pairs().items()}
    expected = {modality: expected_pairs(xkd, modality) for modality in OTHER}
    if sharing == "both" and shared_ema == "once":
        common = expected["video"].keys() & expected["audio"].keys()
        assert len(common) == len(list(xkd.video_teacher.encoder.blocks.parameters()))
        expected["audio"] = {t: s for t, s in expected["audio"].items() if t not in common}
    assert pairs == expected


def test_student_parameters_are_encoder_and_head_of_the_students():
    xkd = tiny_xkd()
    named = {name for name, _ in xkd.named_parameters() if xkd.is_student_parameter(name)}
    parts = {name.split(".")[0] + "." + name.split(".")[1] for name in named}
    assert parts == {f"{modality}_student.{part}" for modality in OTHER for part in ("encoder", "head")}


def test_a_few_steps_lower_the_loss():
    xkd, batch = tiny_xkd(), tiny_batch(8)
    optimizer = torch.optim.AdamW([p for p in xkd.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(15):
        losses.append(run(xkd, batch).loss.item())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.9 * losses[0]


def test_local_views_of_another_size_use_interpolated_positions():
    xkd = tiny_xkd(weights={"recon": 0.0, "cmkd": 1.0, "align": 0.0})
    assert xkd.audio_student.encoder.features(torch.randn(2, *LOCAL_AUDIO)).shape == (2, 12)
    run(xkd, tiny_batch())
    assert SHAPES["local_audio_shape"] != SHAPES["audio_shape"]
    assert xkd.audio_student.encoder.tokenizer.positions.grad.abs().min() > 0


def test_without_its_cross_modal_terms_a_step_is_one_of_reconstruction_that_leaves_the_heads():
    both, recon = tiny_xkd(), tiny_xkd(weights={"recon": 5.0, "cmkd": 0.0, "align": 0.0})
    output = both(*tiny_batch(), step=3, cross_modal=False)
    alone = recon(*tiny_batch(), step=3)
    assert output.loss.item() == alone.loss.item()
    assert {"cmkd", "align"} <= output.parts.keys()
    output.loss.backward()
    alone.loss.backward()
    for (name, parameter), other in zip(both.named_parameters(), recon.parameters(), strict=True):
        if ".head." in name and parameter.requires_grad:
            assert not parameter.grad.any()
        elif parameter.requires_grad:
            assert torch.equal(parameter.grad, other.grad), name
