import json

import pytest

from xkd.benchmarks import gpu_check, gpu_media
from xkd.benchmarks.gpu_check import Outcome, brief, report, run_inside, run_one
from xkd.benchmarks.gpu_checks import CHECKS, Check, Findings
from xkd.benchmarks.results import Recorder, read_csv
from xkd.pipelines.media import nvdec

ON_GPU = [check.name for check in CHECKS if "gpu" in check.needs]


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.delenv("XKD_REQUIRE_GPU", raising=False)
    monkeypatch.setattr(nvdec, "missing_device", lambda: "no device today")


def outcomes(folder):
    return {outcome["name"]: outcome for outcome in json.loads((folder / gpu_check.OUTCOMES).read_text())}


def run(folder, media, *names):
    return gpu_check.main(["--out", str(folder), "--media", str(media), "--only", *names])


def test_without_a_gpu_its_checks_are_skipped_by_name_and_the_run_succeeds(no_gpu, media, tmp_path):
    assert run(tmp_path, media, "host", *ON_GPU) == 0
    found = outcomes(tmp_path)
    assert found["host"]["status"] == "passed"
    for name in ON_GPU:
        assert found[name]["status"] == "skipped"
        assert found[name]["reason"].startswith("gpu: no device today")


def test_where_a_gpu_is_required_a_skip_is_a_failure(no_gpu, media, tmp_path, monkeypatch):
    monkeypatch.setenv("XKD_REQUIRE_GPU", "1")
    assert run(tmp_path, media, "host") == 0
    assert run(tmp_path, media, "host", "torch-copies") == 1


def test_the_folder_holds_few_files_and_the_last_run_only(no_gpu, media, tmp_path):
    for _ in range(2):
        run(tmp_path, media, "host")
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"report.md", "rows.csv", "checks.json", "environment.json", "log.txt"}
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1
    assert (tmp_path / "report.md").read_text().count("| host") == 1


def test_missing_media_are_named_with_the_way_to_make_them(tmp_path):
    (check,) = [check for check in CHECKS if check.name == "decode-cpu"]
    outcome = run_one(check, tmp_path, tmp_path / "log.txt")
    assert outcome.status == "skipped"
    assert "media: none: make them" in outcome.reason


def test_a_check_whose_process_fails_is_a_failure_that_points_to_the_log(tmp_path):
    outcome = run_one(Check("unknown", (), run=None), None, tmp_path / "log.txt")
    assert (outcome.status, outcome.reason) == ("failed", "its process ended with 2: see log.txt")
    assert "invalid choice: 'unknown'" in (tmp_path / "log.txt").read_text()


def test_a_check_that_takes_too_long_is_stopped(tmp_path):
    outcome = run_one(Check("host", (), run=None, limit_seconds=0), None, tmp_path / "log.txt")
    assert (outcome.status, outcome.reason) == ("failed", "stopped after 0 s, unfinished")


def test_what_was_found_before_a_crash_is_kept(tmp_path, monkeypatch):
    def crashing(context):
        yield Findings(facts=[{"codec": "vp9"}])
        yield Findings(wrong=["h264 is slow"])
        raise RuntimeError("lost")

    monkeypatch.setattr(gpu_check, "CHECKS", [Check("crashing", (), crashing)])
    with pytest.raises(RuntimeError, match="lost"):
        run_inside("crashing", None, tmp_path / "findings.json")
    assert Findings(**json.loads((tmp_path / "findings.json").read_text())) == Findings([], [{"codec": "vp9"}], ["h264 is slow"])


def test_a_long_list_of_wrongs_is_brief_in_the_summary_and_whole_in_the_report():
    wrong = ["vp9: Error in operator\nwith the traceback", "h264: the same"]
    outcome = Outcome("decode", "failed", brief(wrong), 1.0, Findings(wrong=wrong))
    text = report([outcome], Recorder.start("gpu-check", ["check"]))
    assert "| vp9: Error in operator (and 1 more, see report.md) |" in text
    assert all(f"Wrong: {each}\n" in text for each in wrong)


@pytest.mark.long
def test_the_cpus_decode_table_is_measured_without_a_gpu(no_gpu, tmp_path):
    media = gpu_media.write(tmp_path / "media", clips=1, codecs=("vp9", "mjpeg"))
    assert run(tmp_path / "out", media.folder, "decode-cpu") == 0
    assert len(read_csv(tmp_path / "out" / gpu_check.ROWS)) == 6


@pytest.mark.gpu
def test_every_check_passes_on_a_gpu(media, tmp_path):
    gpu_check.main(["--out", str(tmp_path)])
    assert {name: outcome["reason"] for name, outcome in outcomes(tmp_path).items() if outcome["status"] == "failed"} == {}
