"""Whatever way a loader ends, nothing of it is left: no thread, process, descriptor or shared memory."""

import gc
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.pipelines.bad_media import UNDECODABLE, stored, write_set
from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet

pytestmark = pytest.mark.filterwarnings("ignore:.*it is (left out|replaced)")

ROOT = Path(__file__).parents[2]
CONFIG = DataConfig(
    train="unused",
    clip_seconds=1.0,
    pipelines=2,
    prefetch=3,
    max_bad_share=1.0,
    video={"fps": 8, "global_view": {"size": 16}, "local_view": {"count": 0}},
    audio={"hop": 400, "local_view": {"count": 0}},
)


@pytest.fixture(scope="module")
def shards(tiny_shards, tmp_path_factory):
    """Some of them cannot be decoded."""
    healthy = ShardSet.open(tiny_shards)
    samples = [stored(healthy, index) for index in range(len(healthy))]
    samples[3:5] = map(UNDECODABLE["random packets"].make, samples[3:5])
    return write_set(tmp_path_factory.mktemp("leftovers") / "set", samples, healthy)


def loader(shards, preset="pretrain") -> Loader:
    return Loader(shards, CONFIG, preset=preset, batch_size=2)


def left() -> Counter:
    """What this process holds of the machine, by kind and name."""
    gc.collect()
    kinds = {
        "thread": os.listdir("/proc/self/task"),
        "descriptor": open_files(),
        "process": [child.pid for child in psutil.Process().children(recursive=True)],
        "shared memory": shared_memory(),
    }
    return Counter((kind, name) for kind, names in kinds.items() for name in names)


def shared_memory() -> list[str]:
    """What is in /dev/shm, but for what only other processes of the machine have mapped.

    They are told by number, since a semaphore is mapped under the name that it had while it was made.
    """
    numbers = {}
    for path in Path("/dev/shm").iterdir():
        with suppress(FileNotFoundError):  # gone meanwhile
            numbers[path.name] = path.stat().st_ino
    mapped = {process: mapped_shared_memory(process) for process in os.listdir("/proc") if process.isdigit()}
    others = set().union(*mapped.values()) - mapped[str(os.getpid())]
    return sorted(name for name, number in numbers.items() if number not in others)


def mapped_shared_memory(process: str) -> set[int]:
    """The file numbers of what a process has mapped there."""
    with suppress(OSError):  # it has ended, or is another user's
        lines = Path(f"/proc/{process}/maps").read_text().splitlines()
        return {int(line.split()[4]) for line in lines if "/dev/shm/" in line}
    return set()


def open_files() -> Iterator[str]:
    for number in sorted(os.listdir("/proc/self/fd"), key=int):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            yield os.readlink(f"/proc/self/fd/{number}")


def finish(one):
    with one:
        assert len(list(one.epoch(0))) == len(one)


def fail(one):
    with suppress(KeyError), one:
        for _ in one.epoch(0):
            raise KeyError


def close_twice(one):
    next(one.epoch(0))
    one.close()
    one.close()


def start_again_and_again(one):
    with one:
        for number in range(4):
            next(one.epoch(number))


def forget(one):
    next(one.epoch(0))


def forget_an_epoch_under_way(one):
    batches = one.epoch(0)
    next(batches)
    one.keeps_itself = batches


@pytest.mark.parametrize("ending", [finish, fail, close_twice, start_again_and_again, forget, forget_an_epoch_under_way])
def test_nothing_is_left_in_this_process(shards, ending):
    ending(loader(shards))  # what DALI and torch open for good, and the sidecars
    before = left()
    one = loader(shards)
    held = left()
    assert {kind for kind, _ in held - before} >= {"thread"}
    assert "process" not in {kind for kind, _ in held - before}
    ending(one)
    del one
    assert left() - before == Counter()  # what ended meanwhile of an earlier test's threads is no matter


CHILD = """
import os, sys, threading
from tests.pipelines.test_leftovers import CONFIG, Loader, ShardSet
before = len(os.listdir("/proc/self/task"))
with Loader(ShardSet.open(sys.argv[1]), CONFIG.model_copy(update={"read_ahead": 64}), preset="pretrain", batch_size=2) as loader:
    for epoch in range(10**6):
        for number, batch in enumerate(loader.epoch(epoch)):
            if (epoch, number) == (1, 2):
                print("going", flush=True)
"""


def start(code, shards) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(shards.folder)], cwd=ROOT, text=True, **pipes)


def test_ctrl_c_ends_the_process_at_once_and_leaves_nothing(shards):
    before = shared_memory()
    child = start(CHILD, shards)
    assert child.stdout.readline() == "going\n"
    children = psutil.Process(child.pid).children(recursive=True)
    assert children == []
    os.kill(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert shared_memory() == before


def test_ctrl_c_ends_all_threads_of_a_loader(shards):
    code = "try:\n" + "".join(f"    {line}\n" for line in CHILD.strip().split("\n"))
    code += """
except KeyboardInterrupt:
    print(len(os.listdir("/proc/self/task")) - before, [thread.name for thread in threading.enumerate()], flush=True)
"""
    child = start(code, shards)
    assert child.stdout.readline() == "going\n"
    os.kill(child.pid, signal.SIGINT)
    output, errors = child.communicate(timeout=60)
    assert (child.returncode, output) == (0, "0 ['MainThread']\n"), errors


@pytest.mark.long
def test_leaving_python_without_closing_is_quiet(tiny_shards):
    code = """
import sys
from tests.pipelines.test_leftovers import CONFIG, Loader, ShardSet
loader = Loader(ShardSet.open(sys.argv[1]), CONFIG, preset="eval", batch_size=2)
epoch = loader.epoch(0)
next(epoch)
"""
    child = start(code, ShardSet.open(tiny_shards))
    output, errors = child.communicate(timeout=100)
    assert (child.returncode, output, errors) == (0, "", "")
