"""The lines that a person reads."""

import pytest

from xkd.train.console import Console, duration, fields, fit, probed

ROW = {
    "loss": 1.36671,
    "recon": 1.0282,
    "cmkd": 17.5819,
    "align": 2.0763,
    "recon_video": 1.1,
    "skipped_steps": 0,
    "substituted": 0,
    "epoch": 0.041,
    "clips_per_second": 84.31,
    "data_wait_share": 0.034,
    "lr": 2.6e-4,
    "grad_norm": 1.794,
}
LINE = (
    "step  100/1500  epoch 0.04  loss  1.367  recon  1.028  cmkd 17.582  align  2.076  "
    "  84.3 clips/s  data wait  3%  lr 2.6e-04  grad 1.79"
)


def test_a_line_tells_the_losses_the_speed_and_what_limits_it():
    assert fit(fields(100, 1500, ROW), None) == LINE


def test_lines_of_one_run_are_columns():
    later = ROW | {"loss": 0.9, "cmkd": 8.1, "clips_per_second": 1200.04, "data_wait_share": 0.25, "epoch": 8.0}
    assert len(fit(fields(1500, 1500, later), None)) == len(LINE)


def test_steps_that_were_skipped_and_clips_that_were_bad_are_told_when_there_are_any():
    assert fields(1, 9, ROW | {"skipped_steps": 2, "substituted": 3})[6:8] == ["SKIPPED 2", "BAD CLIPS 3"]


def test_a_row_of_few_metrics_is_a_short_line():
    assert fields(7, 10, {"loss": float("nan")}) == ["step  7/10", "loss    nan"]


def test_utilisation_is_told_where_it_is_known():
    assert "MFU 41.2%" in fields(1, 9, ROW | {"mfu": 0.4123})


@pytest.mark.parametrize("columns", [20, 40, 80, 120, 160])
def test_a_line_fits_its_terminal_and_loses_its_last_parts_first(columns):
    line = fit(fields(100, 1500, ROW), columns)
    assert len(line) <= columns
    assert LINE.startswith(line)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (220, "3 min 40 s"), (19230, "5 h 20 min"), (183900, "2 d 3 h")],
)
def test_durations_are_told_in_their_two_largest_units(seconds, words):
    assert duration(seconds) == words


def test_without_a_terminal_each_row_is_one_plain_line_and_what_is_left_stands_at_its_end(capsys):
    console = Console(total_steps=10, start_step=4)
    console.say(["hello"])
    console.advance()
    console.write(5, {"loss": 1.0})
    console.write(10, {"loss": 0.5})
    console.close()
    out, err = capsys.readouterr()
    hello, first, last = out.splitlines()
    assert hello == "hello"
    assert first.startswith("step  5/10  loss  1.000  ")
    assert first.endswith(" left")
    assert last == "step 10/10  loss  0.500"
    assert err == ""


def test_a_probe_has_a_line_of_its_own_and_a_row_of_nothing_else_is_no_step(capsys):
    row = {"probe/knn_video": 0.3125, "probe/video_to_audio_r1": 0.02, "probe/clips": 64, "probe/seconds": 1.5}
    line = "probe at step 0  knn_video 31.2%  video_to_audio_r1 2.0%"
    assert probed(0, row) == line
    console = Console(total_steps=10, start_step=0)
    console.write(0, row)
    console.write(10, row | {"loss": 1.0})
    console.close()
    assert capsys.readouterr().out.splitlines() == [line, "step 10/10  loss  1.000", line.replace("0", "10", 1)]
