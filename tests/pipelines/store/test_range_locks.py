import os
import subprocess
import sys

import pytest

from xkd.pipelines.store.range_locks import LockFile

LAST = 1 << 62  # ranges may lie far beyond what a disk holds


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def held(holder):
    return sorted(holder.held_by_others(0, 2 * LAST - 1))


def test_ranges_exclude_each_other_where_they_meet(path):
    with LockFile(path) as one, LockFile(path) as other:
        assert one.try_lock(10, 5)
        assert not other.try_lock(14, 1)
        assert other.try_lock(15, 1)
        assert other.try_lock(LAST, 1 << 36)
        assert held(one) == [(15, 1), (LAST, 1 << 36)]
        assert held(other) == [(10, 5)]
        one.release(10, 5)
        assert other.try_lock(14, 1)


def test_a_shared_range_is_seen_by_those_who_do_not_share_it(path):
    with LockFile(path) as one, LockFile(path) as other, LockFile(path) as third:
        one.share(7, 1)
        other.share(7, 1)
        assert not third.try_lock(7, 1)
        one.release(7, 1)
        assert held(third) == [(7, 1)]
        other.release(7, 1)
        assert held(third) == []


def test_many_ranges_of_many_holders_are_all_found(path):
    holders = [LockFile(path) for _ in range(5)]
    ranges = [(100 * number, 10 + number) for number in range(40)]
    for number, one in enumerate(ranges[::-1]):
        assert holders[number % 5].try_lock(*one)
    with LockFile(path) as reader:
        assert held(reader) == ranges
        holders[0].close()
        assert len(held(reader)) == 32


def test_the_locks_of_a_killed_process_end(path):
    hold = """import sys; from xkd.pipelines.store.range_locks import LockFile
lock = LockFile(sys.argv[1]); print(lock.try_lock(3, 2)); input()"""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen([sys.executable, "-c", hold, path], stdin=-1, stdout=-1, text=True, env=environment)
    assert process.stdout.readline() == "True\n"
    with LockFile(path) as here:
        assert not here.try_lock(4, 1)
        assert held(here) == [(3, 2)]
        process.kill()
        process.communicate()
        assert here.try_lock(4, 1)
