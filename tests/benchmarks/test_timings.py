import math

import pytest

from xkd.benchmarks.timings import RUN_TO_RUN, is_whole, key, kind, name, newest, timing

ROW = {
    **{"benchmark": "loader", "case": "a, b", "provider": "ours", "part": "total", "commit": "1", "gpu": "", "rounds": "4"},
    **{"items": "10", "wall_p20_s": "1", "wall_p50_s": "2", "wall_p80_s": "4", "cpu_s": "3", "cpu_p20_s": "", "cpu_p80_s": ""},
}
KERNEL = {
    **{"benchmark": "kernels", "op": "mmd", "case": "c", "batch": "4", "provider": "eager", "part": "both", "gpu": "H100"},
    **{"p20_us": "10", "p50_us": "20", "p80_us": "20", "rounds": "9"},
}


def test_a_time_is_of_one_item_and_its_error_follows_from_spread_and_rounds():
    found = timing(ROW, "wall")
    assert found.seconds == pytest.approx(0.2)
    assert found.error == pytest.approx(math.sqrt(math.pi / 2) * math.log(4) / 1.6832 / 2)


def test_cpu_time_has_its_own_spread_where_the_file_has_it_and_that_of_wall_time_elsewhere():
    assert timing(ROW, "cpu").seconds == pytest.approx(0.3)
    assert timing(ROW, "cpu").error == timing(ROW, "wall").error
    assert timing(ROW | {"cpu_p20_s": "3", "cpu_p80_s": "3"}, "cpu").error == 0


@pytest.mark.parametrize(
    ("load", "cpus", "mood"),
    [("0.9", "2", "calm"), ("1", "2", "calm"), ("1.1", "2", "busy"), ("9", "16", "calm"), ("", "2", "busy")],
)
def test_runs_lie_further_apart_where_the_machine_had_no_cpu_left(load, cpus, mood):
    row = ROW | {"load": load, "cpus": cpus}
    assert {by: timing(row, by).drift for by in ("cpu", "wall")} == RUN_TO_RUN[mood]


def test_rows_of_kernels_are_in_microseconds_and_have_no_cpu_time():
    assert timing(KERNEL, "wall").seconds == pytest.approx(20e-6)
    assert timing(KERNEL, "cpu") is None


def test_what_was_not_measured_has_no_time():
    absent = dict.fromkeys(ROW, "") | {"provider": "peer"}
    assert timing(absent, "wall") is timing(absent, "cpu") is kind(absent, None) is None


@pytest.mark.parametrize(
    ("row", "by", "found"),
    [
        (ROW, None, "cpu"),
        (ROW | {"gpu": "H100"}, None, "wall"),
        (ROW | {"cpu_s": ""}, None, "wall"),
        (KERNEL, None, "wall"),
        (ROW, "wall", "wall"),
        (KERNEL, "cpu", None),
    ],
)
def test_time_is_the_cpus_unless_a_gpu_works_or_another_is_asked_for(row, by, found):
    assert kind(row, by) == found


def test_the_newest_rows_are_those_of_the_last_commit_of_each_measurement():
    old, again, new = ROW | {"commit": "0"}, ROW | {"items": "11"}, ROW
    other = ROW | {"provider": "peer", "commit": "0"}
    assert newest([old, other, again, new]) == {key(ROW): [again, new], key(other): [other]}


def test_a_measurement_is_named_by_what_tells_it_from_others():
    assert name(key(ROW)) == "loader, a, b, ours"
    assert name(key(ROW | {"part": "read"}), without=["benchmark"]) == "a, b, ours, read"
    assert name(key(KERNEL)) == "kernels, mmd, c, 4, eager, both"
    assert [is_whole(ROW), is_whole(KERNEL), is_whole(ROW | {"part": "read"})] == [True, True, False]
