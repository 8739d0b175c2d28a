import numpy as np
import pytest
from matplotlib.image import imread

from xkd.cli import main
from xkd.pipelines.inspect.preview import BANDS, contact_sheet, mel_levels
from xkd.pipelines.shards.index import ShardSet


def colours(path):
    """The pixels of a picture [N, 3] in 0..1."""
    return imread(path)[..., :3].reshape(-1, 3)


def share_of(colour, path):
    return (np.abs(colours(path) - np.divide(colour, 255)).max(axis=1) < 0.1).mean()


def test_a_sheet_shows_the_colours_of_the_stored_clips(tiny_shards, tmp_path):
    contact_sheet(ShardSet.open(tiny_shards), tmp_path / "deep" / "sheet.png")
    for ground in ((200, 30, 30), (30, 30, 200)):  # of the classes of the fixture
        assert share_of(ground, tmp_path / "deep" / "sheet.png") > 0.02, ground


def test_a_sheet_shows_what_dali_cannot_decode_and_what_has_one_stream_only(any_shards, tmp_path):
    shards = ShardSet.open(any_shards)
    contact_sheet(shards, tmp_path / "sheet.png", samples=3)
    pixels = colours(tmp_path / "sheet.png")
    assert len(np.unique((pixels * 255).round(), axis=0)) > 100
    if shards.manifest.streams == "video":
        assert share_of((30, 200, 30), tmp_path / "sheet.png") > 0.02


def test_a_set_without_a_sample_has_no_sheet(empty_part, tmp_path):
    with pytest.raises(ValueError, match="holds no sample to draw"):
        contact_sheet(ShardSet.open(empty_part), tmp_path / "sheet.png")


def test_a_sheet_takes_no_more_samples_than_there_are(tiny_shards, tmp_path):
    shards = ShardSet.open(tiny_shards)
    for samples in (1, 3, 12, 1000):
        contact_sheet(shards, tmp_path / f"{samples}.png", samples=samples)
    heights = [imread(tmp_path / f"{samples}.png").shape[0] for samples in (1, 3, 12, 1000)]
    assert heights[0] < heights[1] < heights[2] == heights[3]
    with pytest.raises(ValueError, match="samples: 0 is not at least 1"):
        contact_sheet(shards, tmp_path / "none.png", samples=0)


@pytest.mark.parametrize("hertz", [300, 1000, 5000])
def test_a_tone_is_loudest_at_its_place_on_the_mel_scale(hertz):
    sound = (10000 * np.sin(2 * np.pi * hertz * np.arange(16000) / 16000)).astype(np.int16)
    level = mel_levels(sound, 16000)
    assert level.shape[0] == BANDS
    expected = np.log1p(hertz / 700) / np.log1p(8000 / 700) * (BANDS - 1)
    assert np.abs(level.argmax(axis=0) - expected).max() <= 2


@pytest.mark.parametrize("length", [1, 100, 1024, 5000])
def test_silence_and_short_sounds_have_levels(length):
    assert np.isfinite(mel_levels(np.zeros(length, np.int16), 16000)).all()


def test_a_class_that_looks_like_a_formula_is_drawn(tiny_shards, tmp_path):
    shards = ShardSet.open(tiny_shards)
    named = shards.manifest.model_copy(update={"classes": ("$a_{$", "$b$"), "name": "$c_{$"})
    contact_sheet(ShardSet(tiny_shards, named), tmp_path / "sheet.png", samples=2)


def test_the_command_draws_a_sheet(tiny_shards, tmp_path, capsys):
    assert main(["shards", "preview", str(tiny_shards), "--out", str(tmp_path / "sheet.png"), "--samples", "2"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'sheet.png'}\n"
    assert imread(tmp_path / "sheet.png").shape[1] > 1000
