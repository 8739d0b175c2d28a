"""A cache that several processes share, or that is left by a process that is stopped."""

import itertools
import signal

import pytest

from tests.pipelines.shard_server import Fault
from tests.pipelines.store.cache.cache_process import bytes_taken, left_behind, start
from tests.pipelines.store.cache.caches import FOREVER, NAMES, NUM_SHARDS, original, tars, wait_until


@pytest.mark.parametrize("reads", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_two_processes_with_a_small_cache_read_right_and_keep_to_the_limit(server, tmp_path, tar_bytes, reads):
    limit_bytes = 5 * tar_bytes
    processes = [start(tmp_path, server, "hammer", seed, reads, server.folder, limit_bytes=limit_bytes) for seed in range(2)]
    most = 0
    while any(process.poll() is None for process in processes):
        most = max(most, bytes_taken(tmp_path, processes))
    for process in processes:
        out, err = process.communicate()
        assert (process.returncode, out, err) == (0, "all right\n", "")
    assert 2 * tar_bytes < most <= limit_bytes
    assert len([name for name, _, _ in server.served if name.endswith(".tar")]) > NUM_SHARDS  # shards were removed and came back
    assert bytes_taken(tmp_path, []) <= limit_bytes


def test_two_processes_that_stage_a_folder_copy_each_shard_once(server, tmp_path):
    processes = [start(tmp_path, server, "stage") for _ in range(2)]
    assert [process.communicate() for process in processes] == [("staged\n", "")] * 2
    assert tars(tmp_path) == NAMES
    assert [len(server.of(f"{name}{suffix}")) for name in NAMES for suffix in (".tar", ".safetensors")] == [1] * 2 * NUM_SHARDS
    again = start(tmp_path, server, "stage")
    assert again.communicate() == ("staged\n", "")
    assert len(server.of("train-000000.tar")) == 1


@pytest.mark.parametrize("what", ["ensure", "ahead", "stage"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["Ctrl-C", "terminate", "kill"])
def test_a_process_that_is_stopped_in_a_copy_leaves_nothing_and_another_goes_on(server, tmp_path, what, number):
    server.faults["train-000001.tar"] = iter([Fault(cut=100_000, stall_seconds=FOREVER)])
    process = start(tmp_path, server, what)
    wait_until(lambda: server.of("train-000001.tar"))
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    assert left_behind(tmp_path) == []
    assert "train-000001" not in tars(tmp_path)
    assert bytes_taken(tmp_path, []) == sum((server.folder / f"{name}.tar").stat().st_size for name in tars(tmp_path))
    copied = tars(tmp_path)
    again = start(tmp_path, server, "stage")
    assert again.communicate() == ("staged\n", "")
    assert tars(tmp_path) == NAMES
    assert all(path.read_bytes() == original(server, path.stem) for path in tmp_path.glob("*/*.tar"))
    assert all(len(server.of(f"{name}.tar")) == 1 for name in copied)


@pytest.mark.parametrize(("what", "code"), [("raise", 1), ("exit", 0)])
def test_an_exception_or_the_end_of_the_program_ends_what_is_being_copied(server, tmp_path, what, code):
    server.faults["train-000001.tar"] = itertools.repeat(Fault(cut=100_000, stall_seconds=FOREVER))
    process = start(tmp_path, server, what)
    _, err = process.communicate()
    assert process.returncode == code
    assert ("RuntimeError: of the consumer" in err) == (what == "raise")
    assert "Fatal" not in err
    assert left_behind(tmp_path) == []
    assert "train-000001" not in tars(tmp_path)
