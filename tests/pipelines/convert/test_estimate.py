import re
from dataclasses import replace

from tests.media import write_clip
from xkd.pipelines.convert.estimate import Estimate, estimate_shards, measured
from xkd.pipelines.convert.plan import make_plan
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


def test_the_time_is_that_of_all_items_shared_among_the_workers(tmp_path):
    for index in range(6):
        write_clip(tmp_path / "a" / f"{index}.mp4", seconds=0.3)
    plan = make_plan(tmp_path, dataset="folder", split="train", profile="pretrain")
    estimate = Estimate(plan, workers=4, tried=3, failed=0, bytes_each=1.0, seconds_each=2400.0)
    assert estimate.seconds == 6 * 2400 / 4
    assert "in about 1.00 h with 4 workers" in str(estimate)
    assert "in about 0.15 min with 4 workers" in str(replace(estimate, seconds_each=6.0))


def test_an_item_takes_as_long_as_its_worker_had_it_in_work_however_many_there_are(monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert measured(str, 7) == ("7", 2.5)


def test_the_mean_of_the_items_tried_does_not_shrink_with_the_workers(tmp_path, monkeypatch):
    """All tried items in work at once end almost together; what each of them took must still count."""
    for index in range(4):
        write_clip(tmp_path / "a" / f"{index}.mp4", seconds=0.3)
    results = [(None, seconds) for seconds in (1.0, 2.0, 3.0, 6.0)]
    monkeypatch.setattr("xkd.pipelines.convert.estimate.map_in_order", lambda *_, **__: (result for result in results))
    for workers in (1, 4, 64):
        estimate = estimate_shards(tmp_path, dataset="folder", split="train", profile="pretrain", workers=workers)
        assert (estimate.seconds_each, estimate.seconds) == (3.0, 12.0 / workers)
