import json
import sys
import time

import psutil
import pytest

from xkd.benchmarks import gpu_check
from xkd.benchmarks.findings import Context, Findings
from xkd.benchmarks.gpu_check import run_alone, run_inside, run_one
from xkd.benchmarks.gpu_checks import CHECKS, LIMIT_SECONDS, MEDIA_SECONDS, Check
from xkd.benchmarks.gpu_media import MediaSet
from xkd.benchmarks.gpu_report import Outcome, judged
from xkd.pipelines.media import nvdec

PATIENT = ("--times", "20")  # a busy machine must not fail a test
ON_GPU = [check.name for check in CHECKS if "gpu" in check.needs]


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.delenv("XKD_REQUIRE_GPU", raising=False)
    monkeypatch.setattr(nvdec, "missing_device", lambda: "no device today")


def made(name, run=None):
    return Check(name, "", (), run, limit_seconds=5)


def outcomes(folder):
    return {outcome["name"]: outcome for outcome in json.loads((folder / gpu_check.OUTCOMES).read_text())}


def run(folder, media, *names):
    return gpu_check.main(["--out", str(folder), "--media", str(media), *PATIENT, "--only", *names])


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
    assert files == {"report.md", "rows.csv", "checks.csv", "checks.json", "environment.json", "log.txt"}
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1
    assert (tmp_path / "report.md").read_text().count("| host") == 1


def test_missing_media_are_named_with_the_way_to_make_them(tmp_path):
    (check,) = [check for check in CHECKS if check.name == "loader-clips"]
    outcome = run_one(check, tmp_path, tmp_path / "log.txt", seconds=10)
    assert outcome.status == "skipped"
    assert "media: none: make them" in outcome.reason


def test_media_are_made_only_for_checks_that_lack_nothing_else(no_gpu, media, monkeypatch):
    monkeypatch.setattr(gpu_check.gpu_media, "write", lambda folder: MediaSet.open(media))
    with gpu_check.media_folder(None, ON_GPU) as made:
        assert made is None
    monkeypatch.setattr(gpu_check, "CHECKS", [Check("decode", "", ("media",), None, limit_seconds=5)])
    with gpu_check.media_folder(None, ["decode"]) as made:
        assert made == media


def test_a_check_whose_process_fails_is_a_failure_that_points_to_the_log(tmp_path):
    outcome = run_one(made("unknown"), None, tmp_path / "log.txt", seconds=60)
    assert (outcome.status, outcome.reason) == ("failed", "its process ended with 2: see log.txt")
    assert "invalid choice: 'unknown'" in (tmp_path / "log.txt").read_text()


def test_a_check_that_takes_too_long_is_stopped(tmp_path):
    outcome = run_one(made("host"), None, tmp_path / "log.txt", seconds=0)
    assert (outcome.status, outcome.reason) == ("failed", "stopped after 0 s, unfinished")


def test_what_a_check_has_started_ends_with_it(tmp_path):
    child = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    with (tmp_path / "log.txt").open("w") as log:
        assert run_alone([sys.executable, "-c", child], log, seconds=120, folder=tmp_path) == 0
    left, end = int((tmp_path / "log.txt").read_text()), time.monotonic() + 60
    while psutil.pid_exists(left) and psutil.Process(left).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_all_checks_together_keep_within_eight_minutes():
    assert sum(check.limit_seconds for check in CHECKS) + MEDIA_SECONDS <= LIMIT_SECONDS == 480


def test_what_no_time_is_left_for_is_told_and_no_failure():
    context = Context(None, recorder=None, end=0)
    assert list(context.in_time(["vp9", "h264", "hevc"])) == ["vp9"]
    outcome = judged("decode", Findings(facts=[{"codec": "vp9"}]), context.left_out, 9.0)
    assert (outcome.status, outcome.reason) == ("cut short", "2 of 3 left out for want of time: --times 3 gives more")
    assert judged("decode", Findings(wrong=["h264 is slow"]), context.left_out, 9.0).status == "failed"
    assert list(Context(None, recorder=None).in_time(range(3))) == [0, 1, 2]
    assert gpu_check.exit_code([outcome]) == 0


def test_a_cut_is_a_failure_where_a_gpu_is_required(monkeypatch):
    monkeypatch.setenv("XKD_REQUIRE_GPU", "1")
    assert gpu_check.exit_code([judged("decode", Findings(), ["2 of 3"], 9.0)]) == 1


def test_a_check_has_the_time_that_those_before_it_have_left(media, tmp_path, monkeypatch):
    given = []

    def noted(check, media, log, seconds):
        given.append(seconds)
        return Outcome(check.name, "passed", "", 2.0, Findings())

    monkeypatch.setattr(gpu_check, "CHECKS", [made("a"), made("b"), made("c")])
    monkeypatch.setattr(gpu_check, "run_one", noted)
    gpu_check.run_all(tmp_path, media, ["a", "c"], times=2, spare=1)
    assert given == [11, 19]  # 2 x 5, and what is left of 1 and then of 11


def test_what_was_found_before_a_crash_is_kept(tmp_path, monkeypatch):
    def crashing(context):
        yield Findings(facts=[{"codec": "vp9"}])
        yield Findings(wrong=["h264 is slow"])
        raise RuntimeError("lost")

    monkeypatch.setattr(gpu_check, "CHECKS", [made("crashing", crashing)])
    with pytest.raises(RuntimeError, match="lost"):
        run_inside("crashing", None, tmp_path / "findings.json", seconds=60)
    known = json.loads((tmp_path / "findings.json").read_text())
    assert Findings(**known["findings"]) == Findings([], [{"codec": "vp9"}], ["h264 is slow"])


def test_what_a_check_has_left_out_is_known_after_its_end(tmp_path, monkeypatch):
    def sweep(context):
        for codec in context.in_time(["vp9", "h264"]):
            yield Findings(facts=[{"codec": codec}])

    monkeypatch.setattr(gpu_check, "CHECKS", [made("sweep", sweep)])
    run_inside("sweep", None, tmp_path / "findings.json", seconds=-1)
    known = json.loads((tmp_path / "findings.json").read_text())
    assert (known["findings"]["facts"], known["left_out"]) == ([{"codec": "vp9"}], ["1 of 2"])


@pytest.mark.gpu
@pytest.mark.long
@pytest.mark.timeout(2 * LIMIT_SECONDS)
def test_every_check_passes_on_a_gpu(tmp_path):
    gpu_check.main(["--out", str(tmp_path)])
    assert {name: outcome["reason"] for name, outcome in outcomes(tmp_path).items() if outcome["status"] == "failed"} == {}
