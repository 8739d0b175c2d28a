import re

from tests.media import write_clip
from xkd.pipelines.convert.estimate import estimate_shards
from xkd.pipelines.convert.write import write_shards


def test_an_estimate_says_what_a_run_would_do_and_writes_nothing(media_folder, tmp_path):
    call = {"dataset": "folder", "split": "train", "profile": "pretrain", "workers": 1}
    estimate = estimate_shards(media_folder, tried=12, **call)
    assert list(tmp_path.iterdir()) == []
    told = str(estimate)
    assert "would convert 12 items of 2 classes" in told
    assert "measured on 12 of them, of which 0 failed" in told
    manifest = write_shards(media_folder, tmp_path, **call).manifest
    megabytes = float(re.search(r"about ([\d.]+) MB", told)[1])
    assert 0.8 * manifest.num_bytes < megabytes * 1e6 < manifest.num_bytes


def test_an_estimate_names_what_is_missing_and_what_is_in_no_list(tmp_path):
    write_clip(tmp_path / "a" / "0.mp4", seconds=0.3)
    write_clip(tmp_path / "a" / "1.mp4", seconds=0.3)
    (tmp_path / "train.txt").write_text("a/0.mp4\na/2.mp4\n")
    told = str(estimate_shards(tmp_path, dataset="folder", split="train", profile="pretrain", workers=1, part=(1, 2)))
    assert "folder train: 2 listed, 1 present (50.0%), 1 missing, 1 in no list" in told
    assert "1 missing: 'a/2.mp4'" in told
    assert "1 in no list: 'a/1.mp4'" in told
    assert "(part 1 of 2)" in told
