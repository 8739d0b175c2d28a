"""Which tensors the networks share in each variant, how they begin, and how many there are."""

import pytest
import torch

from tests.model.tiny import SHAPES, tiny_xkd
from xkd.losses import LossConfig
from xkd.model.config import ModelConfig
from xkd.model.xkd import XKD

NETWORKS = ("video_student", "audio_student", "video_teacher", "audio_teacher")
# The sets of networks whose transformer blocks are the same tensors.
SHARED = {
    "none": [{"video_student"}, {"audio_student"}, {"video_teacher"}, {"audio_teacher"}],
    "student": [{"video_student", "audio_student"}, {"video_teacher"}, {"audio_teacher"}],
    "both": [{"video_student", "audio_student"}, {"video_teacher", "audio_teacher"}],
}


def owners(xkd):
    """For each tensor, where it is used: {id: {(network, name in it)}}."""
    uses = {}
    for network in NETWORKS:
        for name, parameter in getattr(xkd, network).named_parameters(remove_duplicate=False):
            uses.setdefault(id(parameter), set()).add((network, name))
    return uses.values()


@pytest.mark.parametrize("sharing", SHARED)
def test_only_the_blocks_that_the_variant_names_are_shared(sharing):
    for uses in owners(tiny_xkd(sharing=sharing)):
        networks, names = ({use[i] for use in uses} for i in (0, 1))
        assert len(names) == 1
        if names.pop().startswith("encoder.blocks."):
            assert networks in SHARED[sharing]
        else:
            assert len(networks) == 1


@pytest.mark.parametrize("sharing", SHARED)
def test_teachers_start_as_frozen_copies_of_the_students(sharing):
    xkd = tiny_xkd(sharing=sharing)
    for modality, pairs in xkd.teacher_pairs().items():
        assert pairs, modality
        for teacher, student in pairs:
            assert torch.equal(teacher, student)
            assert teacher.data_ptr() != student.data_ptr()
            assert not teacher.requires_grad


def test_positions_begin_at_their_own_deviation_and_all_else_as_without_it():
    usual, wide = tiny_xkd().state_dict(), tiny_xkd(position_std=0.5).state_dict()
    for name, values in usual.items():
        factor = 0.5 / 0.02 if name.endswith(".positions") else 1
        torch.testing.assert_close(wide[name], factor * values, rtol=1e-6, atol=0)
    assert 0.35 < torch.cat([wide[name].flatten() for name in wide if name.endswith(".positions")]).std() < 0.65


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    first = tiny_xkd(seed=5).state_dict()
    torch.manual_seed(2)
    second, other = tiny_xkd(seed=5).state_dict(), tiny_xkd(seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    name = "video_student.encoder.blocks.0.attn.qkv.weight"
    assert not torch.equal(first[name], other[name])


def test_the_two_modalities_do_not_start_alike():
    xkd = tiny_xkd()
    name = "encoder.blocks.0.attn.qkv.weight"
    assert not torch.equal(xkd.video_student.get_parameter(name), xkd.audio_student.get_parameter(name))


def test_no_parameter_is_left_as_the_module_made_it(monkeypatch):
    """Whatever a constructor leaves in a parameter, initialisation replaces or it is a constant of the method."""
    usual = tiny_xkd().state_dict()
    fill = torch.nn.init.constant_
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda self: [fill(p, 9.0) for p in self.parameters()])
    assert all(torch.equal(usual[name], tensor) for name, tensor in tiny_xkd().state_dict().items())


def method_xkd(**changes):
    """The method's network (base) at the method's views, without memory."""
    with torch.device("meta"):
        return XKD(
            ModelConfig(**changes),
            LossConfig(),
            video_shape=(3, 32, 112, 112),
            audio_shape=(1, 80, 448),
            local_video_shape=(3, 8, 96, 96),
            local_audio_shape=(1, 80, 112),
            seed=0,
        )


def test_base_has_the_parameters_of_the_method():
    """method.md, section 1: 396.4 M, of them 206.3 M trainable."""
    parameters = list(method_xkd(size="base").parameters())
    assert round(sum(p.numel() for p in parameters) / 1e6, 1) == 396.4
    assert round(sum(p.numel() for p in parameters if p.requires_grad) / 1e6, 1) == 206.3


@pytest.mark.parametrize(("sharing", "copies"), [("none", 4), ("student", 3), ("both", 2)])
def test_sharing_saves_whole_sets_of_blocks(sharing, copies):
    blocks = 12 * (12 * 768**2 + 10 * 768)  # qkv without bias, proj, mlp, two norms
    rest = sum(p.numel() for p in method_xkd().parameters()) - 4 * blocks
    assert sum(p.numel() for p in method_xkd(sharing=sharing).parameters()) == rest + copies * blocks


def test_a_view_that_does_not_fit_is_refused_before_building():
    with pytest.raises(ValueError, match="global video view: 5x8x8"):
        tiny_xkd(shapes={**SHAPES, "video_shape": (3, 5, 8, 8)})
