"""A check that hangs or breaks is a finding, and keeps nobody waiting."""

import threading

from xkd.doctor.checks import Check, run
from xkd.doctor.verdict import ok


def check(work, limit_seconds=0.2):
    return Check("odd", work, once_a_node=True, limit_seconds=limit_seconds)


def test_one_that_hangs_is_given_up_and_what_it_found_before_stays(alone):
    release = threading.Event()

    def hangs(context):
        yield ok("first", "fine")
        release.wait()

    found, ended = run(check(hangs), alone, seconds=60)
    release.set()
    assert [(verdict.check, verdict.status) for verdict in found] == [("first", "ok"), ("odd", "failed")]
    assert not ended


def test_one_that_breaks_is_a_failure_with_what_it_said(alone):
    def breaks(context):
        yield ok("first", "fine")
        raise OSError("the disk is on fire")

    found, ended = run(check(breaks, 60), alone, seconds=60)
    assert found[-1].found == "OSError: the disk is on fire"
    assert ended


def test_one_whose_time_is_up_before_it_begins_is_not_made(alone):
    found, ended = run(check(lambda context: [ok("first", "fine")]), alone, seconds=-1.0)
    assert [verdict.status for verdict in found] == ["not checked"]
    assert ended
