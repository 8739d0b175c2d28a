"""Small shard sets of every kind: with both streams, video alone, sound alone, either alone; wav and flac; folds."""

import pytest

from tests.media import moving_bar, tone, write_clip
from xkd.pipelines.convert.write import write_shards


@pytest.fixture(scope="session")
def video_shards(tmp_path_factory):
    """An HMDB51 of 5 silent clips, as H.264, in shards of 2, 2 and 1."""
    root = tmp_path_factory.mktemp("hmdb51")
    for index in range(5):
        write_clip(
            root / "wave" / f"clip {index}.avi", picture=moving_bar((30, 200, 30)), sound=None, seconds=1, height=120, width=160
        )
    for fold in (1, 2, 3):
        lines = [f"clip {index}.avi {(index + fold) % 3}" for index in range(5)]
        (root / f"wave_test_split{fold}.txt").write_text("\n".join(lines))
    return write(root, tmp_path_factory, dataset="hmdb51", split="all", codec="h264", shard_samples=2)


@pytest.fixture(scope="session")
def esc50(tmp_path_factory):
    """An ESC-50 of 6 sounds of 1.2 s, one of them a broken file."""
    root = tmp_path_factory.mktemp("esc50")
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for index in range(6):
        name = f"{index % 5 + 1}-{index}-A-{index % 2}.wav"
        rows.append(f"{name},{index % 5 + 1},{index % 2},{['dog', 'rain'][index % 2]},True,{index},A")
        write_clip(root / "audio" / name, picture=None, sound=tone(300 * (index + 1)), seconds=1.2, audio_codec="pcm_s16le")
    (root / "audio" / name).write_bytes(b"no sound")
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="session")
def wav_shards(esc50, tmp_path_factory):
    return write(esc50, tmp_path_factory, dataset="esc50", split="all", shard_samples=4)


@pytest.fixture(scope="session")
def flac_shards(esc50, tmp_path_factory):
    return write(esc50, tmp_path_factory, dataset="esc50", split="all", audio="flac", shard_samples=4)


@pytest.fixture(scope="session")
def mixed_shards(tmp_path_factory):
    """A UCF101 of two clips, one of them silent."""
    root = tmp_path_factory.mktemp("ucf101")
    for index, sound in enumerate([tone(500), None]):
        write_clip(root / "Archery" / f"v_Archery_g0{index}_c01.avi", sound=sound, seconds=1, audio_codec="mp3", sample_rate=44100)
    (root / "classInd.txt").write_text("1 Archery\n")
    for fold in (1, 2, 3):
        (root / f"trainlist0{fold}.txt").write_text("Archery/v_Archery_g00_c01.avi 1\n")
        (root / f"testlist0{fold}.txt").write_text("Archery/v_Archery_g01_c01.avi\n")
    return write(root, tmp_path_factory, dataset="ucf101", split="all")


@pytest.fixture(scope="session")
def empty_part(esc50, tmp_path_factory):
    """The second of two parts of 6 items in groups of 1000."""
    return write(esc50, tmp_path_factory, dataset="esc50", split="all", part=(2, 2))


@pytest.fixture(params=["tiny_shards", "video_shards", "wav_shards", "flac_shards", "mixed_shards"])
def any_shards(request):
    return request.getfixturevalue(request.param)


def write(source, tmp_path_factory, **choices):
    out = tmp_path_factory.mktemp("shards")
    write_shards(source, out, workers=1, **choices)
    return out
