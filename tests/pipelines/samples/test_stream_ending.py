"""However a stream ends, no thread and no open file is left of it."""

import gc
import os
import threading
from contextlib import suppress

import pytest

from tests.pipelines.interrupted import threads_after_ctrl_c
from tests.pipelines.streams import stream

pytestmark = pytest.mark.filterwarnings("ignore:.*it is (replaced|left out)")


def readers() -> int:
    return sum(thread.name == "read-ahead" for thread in threading.enumerate())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def finish(one, steps):
    list(steps)


def fail(one, steps):
    with suppress(KeyError), one:
        for _ in steps:
            raise KeyError


def close(one, steps):
    one.close()


def start_another(one, steps):
    list(one.epoch(1))
    assert list(steps) == []


@pytest.mark.parametrize("ending", [finish, fail, close, start_another])
def test_no_thread_is_left_however_it_ends(healthy, ending):
    one = stream(healthy)
    steps = one.epoch(0)
    next(steps)
    assert readers() > 0
    ending(one, steps)
    assert readers() == 0


def test_no_thread_and_no_tar_is_left_of_a_forgotten_stream(healthy):
    for shard in range(len(healthy.manifest.shards)):
        healthy.sample(shard * 7)  # opens the sidecars, which stay
    gc.collect()
    before = descriptors()
    one = stream(healthy)
    steps = one.epoch(0)
    next(steps)
    assert descriptors() > before
    del one, steps
    gc.collect()
    assert readers() == 0
    assert descriptors() == before


def test_ctrl_c_leaves_no_thread(healthy):
    code = f"""
from tests.pipelines.streams import ShardSet, config, stream
with stream(ShardSet.open({str(healthy.folder)!r}), config=config(read_ahead=64)) as one:
    for epoch in range(10**6):
        for step in one.epoch(epoch):
            if (epoch, step.number) == (1, 2):
                print("going", flush=True)
"""
    assert threads_after_ctrl_c(code) == ["MainThread"]
