"""Released files: ours come back to the bit, theirs load, and nothing but tensors is read."""

import io
import os
import pickle
import random
import tarfile

import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from tests.model.tiny import AUDIO, LOCAL_AUDIO, LOCAL_VIDEO, VIDEO, tiny_model
from tests.release.nets import HEADS, VARIANTS, equal, filled_xkd
from xkd.model.config import ENCODERS
from xkd.model.networks import initialise
from xkd.model.tokenizers import Tokenizer
from xkd.model.vit import Encoder, transformer_blocks
from xkd.release.files import (
    load_backbones,
    load_encoder,
    load_network,
    read_state,
    save_backbones,
    save_encoder,
    save_network,
)
from xkd.release.keys import BACKBONES, network_tensors

SUFFIXES = [".pth.tar", ".safetensors"]
VIEWS = {
    "video": {"shape": VIDEO, "patch": tiny_model().video.tubelet, **HEADS},
    "audio": {"shape": AUDIO, "patch": tiny_model().audio.patch, **HEADS},
}
CLIPS = {"video": [VIDEO, LOCAL_VIDEO], "audio": [AUDIO, LOCAL_AUDIO]}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_network_comes_back_bit_equal(variant, suffix, tmp_path):
    xkd, other = filled_xkd(**variant), filled_xkd(seed=4, **variant)
    save_network(xkd, tmp_path / f"net{suffix}")
    assert not equal(xkd, other)
    load_network(other, tmp_path / f"net{suffix}")
    assert equal(xkd, other)
    assert [file.name for file in tmp_path.iterdir()] == [f"net{suffix}"]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_backbones_come_back_bit_equal_and_leave_the_rest(variant, tmp_path):
    xkd, other, untouched = filled_xkd(**variant), filled_xkd(seed=4, **variant), filled_xkd(seed=4, **variant)
    save_backbones(xkd, tmp_path / "run" / "k400_")
    assert {file.name for file in (tmp_path / "run").iterdir()} == {f"k400_{name}.pth.tar" for name in BACKBONES}
    load_backbones(other, tmp_path / "run" / "k400_")
    for network in BACKBONES.values():
        assert equal(getattr(other, network).encoder, getattr(xkd, network).encoder)
        assert equal(getattr(other, network).head, getattr(untouched, network).head)
    assert equal(other.video_student.decoder, untouched.video_student.decoder)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("cls_token", [True, False])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_encoder_alone_gives_the_networks_tokens(backbone, cls_token, suffix, tmp_path):
    xkd = filled_xkd(cls_token=cls_token)
    original = getattr(xkd, BACKBONES[backbone]).encoder
    modality = original.tokenizer.modality
    save_encoder(original, tmp_path / f"one{suffix}")
    save_network(xkd, tmp_path / f"net{suffix}")
    alone = load_encoder(tmp_path / f"one{suffix}", **VIEWS[modality])
    part = load_encoder(tmp_path / f"net{suffix}", backbone=backbone, **VIEWS[modality])
    assert equal(alone, original)
    assert equal(part, original)
    for shape in CLIPS[modality]:
        clip = torch.randn(2, *shape)
        tokens = alone(clip)
        assert torch.equal(tokens, original(clip))
        assert torch.equal(alone.features(clip), tokens[:, int(cls_token) :].mean(1))
        assert alone.features(clip).shape == (2, 12)


def test_a_named_size_at_the_methods_views_needs_no_more_than_the_file(tmp_path):
    size = ENCODERS["tiny"]
    encoder = Encoder(Tokenizer((1, 80, 448), (4, 16), size.dim, True, "view"), transformer_blocks(size), size.dim)
    initialise(encoder, seed=0)
    save_encoder(encoder, tmp_path / "aud_teacher.pth.tar")
    loaded = load_encoder(tmp_path / "aud_teacher.pth.tar")
    assert equal(loaded, encoder)
    assert loaded.blocks[0].attn.num_heads == 3
    assert loaded(torch.randn(1, 1, 80, 112)).shape == (1, 141, 192)


def test_a_last_block_that_is_missing_is_named_not_taken_for_a_shallower_net(tmp_path):
    size = ENCODERS["tiny"]
    encoder = Encoder(Tokenizer((1, 80, 448), (4, 16), size.dim, True, "view"), transformer_blocks(size)[:-1], size.dim)
    initialise(encoder, seed=0)
    save_encoder(encoder, tmp_path / "cut.pth.tar")
    with pytest.raises(ValueError, match=r"missing: encoder\.blocks\.11\.norm1\.weight, .*\.11\.mlp\.fc2\.bias\n.*12 blocks"):
        load_encoder(tmp_path / "cut.pth.tar")


def saved(tmp_path, change, **options):
    """A file of the audio teacher whose state `change` has altered in place."""
    path = tmp_path / "a.pth.tar"
    save_encoder(filled_xkd(**options).audio_teacher.encoder, path)
    state = torch.load(path)
    torch.save(change(state) or state, path)
    return path


def test_a_missing_an_unexpected_and_a_mis_shaped_key_are_named_together(tmp_path):
    def change(state):
        del state["encoder.blocks.1.norm1.bias"]
        state["more"] = torch.zeros(2)
        state["encoder_norm.weight"] = torch.zeros(7)

    with pytest.raises(ValueError) as raised:
        load_encoder(saved(tmp_path, change), **VIEWS["audio"])
    assert (
        str(raised.value)
        .split("\n", 1)[1]
        .startswith(
            "  missing: encoder.blocks.1.norm1.bias\n"
            "  unexpected: more\n"
            "  mis-shaped: encoder_norm.weight is [7] instead of [12]\n"
            "It was taken for 2 blocks of width 12, audio views of 8x12 in tokens of 4x4"
        )
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"the width 12 is not one of .*give heads"),
        (
            {**VIEWS["audio"], "shape": (1, 8, 16)},
            r"enc_pos_embed is \[1, 7, 12\] instead of \[1, 9, 12\]\n.*views of 8x16 .*give shape",
        ),
        ({**VIEWS["audio"], "patch": (4, 2)}, r"patch_embed\.proj\.weight is \[12, 16\] instead of \[12, 8\]"),
        ({**VIEWS["audio"], "patch": (5, 4)}, "audio view: 8x12 cannot be cut into tokens of 5x4"),
        ({**VIEWS["audio"], "shape": (8, 12)}, r"shape: \(8, 12\) has 2 sides; the shape of audio has 3"),
        ({**VIEWS["audio"], "patch": (1, 4, 4)}, r"patch: \(1, 4, 4\) has 3 sides; the patch of audio has 2"),
        ({"backbone": "aud_teacher"}, "holds no aud_teacher.backbone: leave `backbone` out"),
        ({"backbone": "audio"}, "backbone: 'audio' is not one of vid_student, vid_teacher, aud_student, aud_teacher"),
    ],
)
def test_a_geometry_that_is_not_the_files_is_refused_with_the_fix(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_encoder(saved(tmp_path, lambda state: None), **options)


def test_a_whole_network_asks_which_backbone(tmp_path):
    save_network(filled_xkd(), tmp_path / "net.pth.tar")
    with pytest.raises(ValueError, match="backbone: None is not one of vid_student"):
        load_encoder(tmp_path / "net.pth.tar")


@pytest.mark.parametrize("change", [{"sharing": "student"}, {"cls_token": False}, {"encoder": {"dim": 12, "depth": 3, "heads": 3}}])
def test_a_network_of_another_configuration_is_refused_and_unchanged(change, tmp_path):
    save_network(filled_xkd(), tmp_path / "net.pth.tar")
    xkd = filled_xkd(seed=4, **change)
    with pytest.raises(ValueError, match=r"net\.pth\.tar: does not fit the network:\n(.*\n)+The configuration"):
        load_network(xkd, tmp_path / "net.pth.tar")
    assert equal(xkd, filled_xkd(seed=4, **change))


def test_keys_of_a_data_parallel_wrapper_are_read(tmp_path):
    path = saved(tmp_path, lambda state: {f"module.{key}": tensor for key, tensor in state.items()})
    assert equal(load_encoder(path, **VIEWS["audio"]), filled_xkd().audio_teacher.encoder)


def test_half_precision_is_converted(tmp_path):
    path = saved(tmp_path, lambda state: {key: tensor.half() for key, tensor in state.items()})
    loaded, original = load_encoder(path, **VIEWS["audio"]).state_dict(), filled_xkd().audio_teacher.encoder.state_dict()
    assert all(torch.equal(loaded[name], original[name].half().float()) for name in original)


def test_a_file_holds_no_more_than_its_tensors(tmp_path):
    xkd = filled_xkd()
    encoder = xkd.video_student.encoder
    flat = torch.randn(1_000_000)
    encoder.norm.weight.data = flat[:12]
    save_encoder(encoder, tmp_path / "a.pth.tar")
    assert (tmp_path / "a.pth.tar").stat().st_size < 100_000
    assert torch.equal(load_encoder(tmp_path / "a.pth.tar", **VIEWS["video"]).norm.weight, flat[:12])


class Payload:
    """What a hostile file holds: unpickling it makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


WRITERS = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "pickle": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(writer, tmp_path):
    path, marker = tmp_path / "vid_teacher.pth.tar", tmp_path / "marker"
    WRITERS[writer]({"cls_token": torch.zeros(1, 1, 12).tolist(), "evil": Payload(marker)}, path)
    with pytest.raises(ValueError, match=r"vid_teacher\.pth\.tar: refused: it names posix\.mkdir, which could run code"):
        load_encoder(path)
    assert not marker.exists()
    if writer == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert marker.exists()  # the payload was a real one


def torch_bytes(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def in_a_tar(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("vid_teacher.pth")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


GOOD = torch_bytes({"a": torch.arange(9.0).view(3, 3), "b": torch.ones(2)})


@pytest.mark.filterwarnings("ignore:Sparse invariant checks", "ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth.tar", b"", "is damaged, or no file of weights"),
        ("a.pth.tar", b"<html>404</html>", "is damaged, or no file of weights"),
        ("a.pth.tar", pickle.dumps({"a": 1}, protocol=4), "is damaged, or no file of weights"),
        ("a.pth.tar", GOOD[: len(GOOD) // 2], "is damaged, or no file of weights"),
        ("a.pth.tar", in_a_tar(GOOD), "is damaged, or no file of weights"),
        ("a.safetensors", GOOD, "is damaged, or no file of weights"),
        ("a.pth.tar", torch_bytes(torch.nn.Linear(2, 2)), r"refused: it names torch\.nn\.modules\.linear\.Linear"),
        ("a.pth.tar", torch_bytes(torch.ones(2)), r"is no bare state dict, .*holds <class 'torch\.Tensor'>"),
        ("a.pth.tar", torch_bytes({"model": {"a": torch.ones(2)}, "epoch": 3}), "is no bare state dict, .*holds model, epoch"),
        ("a.pth.tar", torch_bytes({"a": torch.eye(3).to_sparse()}), "is no bare state dict, .*holds a"),
    ],
)
def test_what_is_no_state_dict_is_refused_by_name(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: {message}") as raised:
        read_state(tmp_path / name)
    assert "set to `False`" not in str(raised.value)  # torch's advice, which is to read it unprotected


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"k400_vid_student\.pth\.tar: no such file"):
        load_backbones(filled_xkd(), tmp_path / "k400_")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pth.tar", GOOD),
        ("a.pth.tar", torch_bytes({"a": torch.ones(3, 3)}, _use_new_zipfile_serialization=False)),
        ("a.safetensors", safetensors_bytes({"a": torch.ones(3, 3)})),
    ],
    ids=["zip", "legacy", "safetensors"],
)
def test_a_mutated_file_is_read_as_tensors_or_refused(name, content, tmp_path):
    draw, refused = random.Random(0), 0
    for _ in range(300):
        mutated = bytearray(content)
        for _ in range(draw.choice([1, 3, 10])):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        (tmp_path / name).write_bytes(mutated[: draw.choice([len(mutated), draw.randrange(len(mutated))])])
        try:
            state = read_state(tmp_path / name)
        except ValueError:
            refused += 1
        else:
            assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    assert refused > 100


def test_saving_the_shared_tensors_once_keeps_every_key(tmp_path):
    xkd = filled_xkd(sharing="both")
    save_network(xkd, tmp_path / "net.pth.tar")
    state = read_state(tmp_path / "net.pth.tar")
    assert state.keys() == network_tensors(xkd).keys()
    twins = ("vid_student.backbone.encoder.blocks.0.norm1.weight", "aud_ae.encoder.encoder.blocks.0.norm1.weight")
    assert len({state[key].data_ptr() for key in twins}) == 1
