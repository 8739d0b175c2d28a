"""AV-Digits on disk: real mp4 files in class folders, the same whatever the number of workers."""

import json
from dataclasses import replace

import av
import numpy as np
import pytest

from xkd.pipelines.avdigits.clip import make_clip
from xkd.pipelines.avdigits.encode import write_mp4
from xkd.pipelines.avdigits.settings import RECIPE
from xkd.pipelines.avdigits.write import write_dataset


def decode(path):
    """Frames [T, H, W, 3] uint8 and samples [S] float32, as any reader sees them."""
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return frames, sound


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "new" / "set"
    write_dataset(folder, train=12, test=3, seed=5, workers=1)
    return folder


def test_files_lie_in_class_folders_with_a_description(written):
    names = {str(path) for path in contents(written)}
    expected = {f"train/{index % 10}/{index:06d}.mp4" for index in range(12)} | {
        f"test/{index}/{index:06d}.mp4" for index in range(3)
    }
    assert names == expected | {"dataset.json"}
    description = json.loads((written / "dataset.json").read_text())
    assert (description["train"], description["test"], description["seed"]) == (12, 3, 5)


def test_the_files_do_not_depend_on_the_number_of_workers(written, tmp_path):
    write_dataset(tmp_path, train=12, test=3, seed=5, workers=2)
    assert contents(tmp_path) == contents(written)


def test_a_file_holds_h264_and_aac_of_the_clip(written):
    path = written / "train" / "7" / "000007.mp4"
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.average_rate, video.frames) == ("h264", RECIPE.fps, RECIPE.num_frames)
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", RECIPE.sample_rate, 1)
        assert container.duration / 1e6 == pytest.approx(RECIPE.seconds, abs=0.03)

    clip = make_clip(5, "train", 7)
    frames, sound = decode(path)
    assert frames.shape == clip.frames.shape
    assert np.abs(frames.astype(int) - clip.frames).mean() < 8
    length = len(clip.sound)
    assert len(sound) == pytest.approx(length, abs=1024)
    assert np.corrcoef(sound[:length], clip.sound[: len(sound)])[0, 1] > 0.9


def test_a_finished_set_is_kept(written, capsys):
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    write_dataset(written, train=12, test=3, seed=5, workers=1)
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before
    assert f"{written}: the same AV-Digits set is already there" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"seed": 6}, {"train": 13}, {"settings": replace(RECIPE, fps=4)}])
def test_a_finished_set_of_another_description_is_an_error_that_names_it(written, change):
    with pytest.raises(ValueError, match=rf"{written}: .*other counts, seed or settings"):
        write_dataset(written, **{"train": 12, "test": 3, "seed": 5, "workers": 1, **change})


def test_a_foreign_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=rf"{tmp_path}: not empty"):
        write_dataset(tmp_path, train=1, test=1, seed=0, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_set_with_a_missing_clip_is_an_error_that_counts_them(tmp_path):
    write_dataset(tmp_path, train=2, test=1, seed=0, workers=1)
    (tmp_path / "train" / "1" / "000001.mp4").unlink()
    with pytest.raises(ValueError, match="2 of the 3 clips"):
        write_dataset(tmp_path, train=2, test=1, seed=0, workers=1)


@pytest.mark.parametrize("wrong", [{"train": -1}, {"seed": -2}, {"workers": 0}])
def test_a_wrong_number_is_an_error_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        write_dataset(tmp_path / "set", **{"train": 1, "test": 1, "seed": 0, "workers": 1, **wrong})
    assert not (tmp_path / "set").exists()


def test_encoding_twice_gives_the_same_bytes(tmp_path):
    clip = make_clip(1, "test", 0)
    paths = tmp_path / "a.mp4", tmp_path / "b.mp4"
    for path in paths:
        write_mp4(path, clip.frames, RECIPE.fps, clip.sound, RECIPE.sample_rate)
    assert paths[0].read_bytes() == paths[1].read_bytes()
