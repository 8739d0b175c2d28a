"""What all processes find together, judged."""

import pytest

from xkd.doctor import ranks


@pytest.mark.parametrize(
    ("backend", "rate", "right", "status"),
    [("gloo", 0.5, True, "ok"), ("gloo", 0.05, True, "warning"), ("nccl", 0.5, True, "warning"), ("nccl", 300.0, False, "failed")],
)
def test_slow_sums_are_a_warning_and_wrong_ones_a_failure(backend, rate, right, status):
    verdict = ranks.judge_rate(backend, rate, right, ranks=16, nodes=2)
    assert verdict.status == status
    assert "16 ranks on 2 nodes" in verdict.found


@pytest.mark.parametrize(
    ("skews", "says"),
    [
        ([0.0, 0.002, -0.3], "apart by 0.300 s at most"),
        ([0.0, 0.2, -7.5], "c is 7.500 s behind a"),
        ([0.0, 7.5, 0.1], "b is 7.500 s ahead of a"),
    ],
)
def test_the_clock_that_is_furthest_off_is_named(skews, says):
    verdict = ranks.judge_clocks(skews, ["a", "b", "c"])
    assert verdict.found == says
    assert verdict.status == ("ok" if "apart" in says else "warning")


def test_a_process_that_is_alone_is_told_how_to_have_ranks_checked(alone):
    (verdict,) = ranks.check(alone)
    assert (verdict.status, verdict.fix) == ("not checked", ranks.LAUNCH)
