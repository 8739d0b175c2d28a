from xkd.benchmarks.findings import Findings
from xkd.benchmarks.gpu_report import Outcome, brief, loader_over_step, report, short_table
from xkd.benchmarks.results import Recorder


def test_the_loader_is_set_beside_the_step_where_both_are_known():
    def outcome(name, rates):
        return Outcome(name, "passed", "", 1.0, Findings(rows=[{"part": "total", "items_per_s": rate} for rate in rates]))

    loader, step = outcome("loader-clips", ["300", "600"]), outcome("bench-step", ["400"])
    assert "ratio 1.50, the aim is 1.2 or more" in loader_over_step([loader, step])
    assert loader_over_step([loader]) == loader_over_step([loader, outcome("bench-step", [""])]) == ""


def test_a_long_list_of_wrongs_is_brief_in_the_summary_and_whole_in_the_report():
    wrong = ["vp9: Error in operator\nwith the traceback", "h264: the same"]
    outcome = Outcome("decode", "failed", brief(wrong), 1.0, Findings(wrong=wrong))
    text = report([outcome], Recorder.start("gpu-check", ["check"]))
    assert "| vp9: Error in operator (and 1 more, see the report) |" in text
    assert all(f"Wrong: {each}\n" in text for each in wrong)


def test_the_last_table_has_a_short_line_for_each_check():
    row = {"part": "total", "unit": "clip", "items_per_s": ""}  # one that was not measured
    rated = Findings(rows=[{**row, "items_per_s": "80.5"}, row], facts=[{"clips/s": 99.0}])
    ended = [Outcome("train", "passed", "", 61.25, rated), Outcome("host", "skipped", "gpu: none; " * 20, 0.0, Findings())]
    first, second = short_table(ended).splitlines()
    assert first == "train  passed      61.2 s  up to 99 clip/s"
    assert second.startswith("host   skipped      0.0 s  gpu: none; gpu")
    assert len(second) <= 120
