"""Verdicts, and those of many processes as one list."""

import pytest

from xkd.doctor.verdict import Verdict, judged, merged, ok


def test_what_is_not_ok_has_a_way_out():
    assert judged("disk", False, "roomy", "buy one") == ok("disk", "roomy")
    assert judged("disk", True, "full", "buy one").lines(" (a)") == ["failed       disk (a): full", "             -> buy one"]
    with pytest.raises(AssertionError):
        Verdict("disk", "failed", "full")


def test_what_all_hosts_found_is_told_once_and_what_some_did_by_their_names():
    fine, full = ok("disk", "roomy"), Verdict("disk", "failed", "full", "buy one")
    clock = ok("clock", "right")
    found = merged([("a", [fine, clock]), ("a", [fine]), ("b", [full, clock]), ("c", [fine, clock])])
    assert found == [("a, c", fine), ("b", full), ("", clock)]
