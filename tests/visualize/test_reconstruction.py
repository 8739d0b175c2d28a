"""Pictures of masked reconstruction: what they show is there, and what they were given is said."""

import numpy as np
import pytest
import torch

from tests.visualize.pixels import colours
from xkd.pipelines.loader import Batch
from xkd.pipelines.shards.index import ShardSet
from xkd.visualize.clips import Clips, coloured, first_clips
from xkd.visualize.reconstruction import reconstruction_rows, reconstruction_title, reconstructions


def test_the_rows_of_a_reconstruction_agree_where_nothing_was_hidden(architecture):
    net = architecture.build(seed=0)
    clip = torch.randn(2, *architecture.data.video_shape)
    rows = reconstruction_rows(net, "video", clip)
    hidden = rows["input"].isnan()
    assert list(rows) == ["original", "input", "patch means", "reconstruction"]
    assert hidden.float().mean() == pytest.approx(1 - round(32 * 0.15) / 32)
    for row in rows.values():
        torch.testing.assert_close(row[~hidden], clip[~hidden])


def test_what_the_picture_is_given_is_shown_as_a_row_of_its_own(architecture):
    net = architecture.build(seed=0)
    clip = torch.randn(2, *architecture.data.audio_shape)
    rows = reconstruction_rows(net, "audio", clip)
    hidden = rows["input"].isnan()
    column = hidden[0, 0, 0].nonzero()[0]  # a patch is one column of all 16 mel bands
    torch.testing.assert_close(rows["patch means"][0, 0, :, column], clip[0, 0, :, column].mean().expand(16, 1))
    assert "taken from the original" in reconstruction_title(net)


def test_without_per_patch_normalisation_nothing_is_given_away(architecture):
    loss = architecture.loss.model_copy(update={"norm_pix_loss": False})
    net = architecture.model_copy(update={"loss": loss}).build(seed=0)
    rows = reconstruction_rows(net, "video", torch.randn(1, *architecture.data.video_shape))
    assert "patch means" not in rows
    assert "taken from the original" not in reconstruction_title(net)


def test_reconstructions_of_real_clips_are_drawn_with_their_class(tiny_shards, architecture):
    shards = ShardSet.open(tiny_shards)
    clips = first_clips(shards, architecture.data, 2)
    figure = reconstructions(architecture.build(seed=0), clips, architecture.data)
    assert len(np.unique((colours(figure) * 255).round(), axis=0)) > 100
    assert clips.titles == [f"class {shards.classes[shards.labels()[i]]}   {shards.sample(i).key}" for i in range(2)]
    assert [block.get_suptitle() for block in figure.subfigs] == clips.titles


def test_one_modality_alone_is_drawn_alone(tiny_shards, architecture):
    clips = first_clips(ShardSet.open(tiny_shards), architecture.data, 2, streams=("audio",))
    assert list(clips.views) == ["audio"]
    figure = reconstructions(architecture.build(seed=0), clips, architecture.data)
    assert len(figure.get_axes()) == 2 * 4


def test_a_spectrogram_stands_with_its_low_bands_at_the_bottom(architecture):
    clip = torch.zeros(1, 16, 64)
    clip[0, 0] = 1.0
    picture = coloured("audio", clip, architecture.data)
    assert picture[-1].mean() > picture[0].mean()


def test_clips_are_copies_since_a_loader_writes_over_its_batches():
    picture, flags = torch.zeros(3, 3, 2, 4, 4), torch.zeros(3, dtype=torch.bool)
    ids = {"labels": torch.tensor([0, -1, 2]), "targets": torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]]), "sample_ids": flags}
    views = {"video_global": picture, "video_local": None, "audio_global": None, "audio_local": None}
    batch = Batch(**views, **ids, keys=["a", "b", "c"], substituted=flags, valid=~flags)
    clips = Clips.of(batch, 2, ["x", "y", "z"])
    picture += 1
    assert {modality: clip.sum().item() for modality, clip in clips.views.items()} == {"video": 0}
    assert clips.titles == ["class x   a", "class x, y   b"]
    assert Clips.of(batch, 2).titles == ["a", "b"]
