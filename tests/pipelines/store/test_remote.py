import itertools
import signal
import subprocess
import sys
import time
import warnings
from hashlib import sha256
from pathlib import Path

import fsspec
import pytest

from tests.pipelines.shard_server import Fault, ShardServer
from xkd.pipelines.shards.new_file import NewFile
from xkd.pipelines.shards.shard_files import StorageError
from xkd.pipelines.store.download import FileRecord, Patience, blocks, copy_file
from xkd.pipelines.store.remote import open_remote

DATA = bytes(range(256)) * 32000
QUICK = Patience(tries=3, first_wait_seconds=0.01)
NAME = "train-000000.tar"
# The connection ends, and what was sent has been read by then; of what has not, the copy may lose a part and ask for it again.
HALF = Fault(cut=len(DATA) // 2, linger_seconds=0.5)
RECORD = FileRecord(NAME, len(DATA), sha256(DATA).hexdigest())


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / NAME).write_bytes(DATA)
    with ShardServer(folder) as server:
        yield server


def copied(remote, path, record=RECORD, **options):
    """What `copy_file` makes of a file; nothing stays where it fails."""
    with NewFile(path) as new_file:
        copy_file(remote, record, new_file.file, QUICK, lambda: False, **options)
        new_file.store()
        new_file.publish()
    return path.read_bytes()


@pytest.mark.parametrize("fault", [HALF, Fault(status=500), Fault(status=503), Fault(status=429), Fault(cut=0)])
def test_after_a_fault_that_passes_a_copy_goes_on_where_it_ended(server, tmp_path, fault):
    """A connection that ends, halfway or before its first byte, and errors of the server: the copy goes on where it ended."""
    server.faults[NAME] = iter([fault])
    assert copied(open_remote(server.url), tmp_path / "copy") == DATA
    (_, first), (offset, second) = server.of(NAME)
    assert offset + second == len(DATA)
    assert (0 < offset <= first) if fault is HALF else offset == first == 0


def test_a_copy_goes_on_as_often_as_there_is_progress(server, tmp_path):
    server.faults[NAME] = itertools.repeat(Fault(cut=1_500_000, linger_seconds=0.2))
    assert copied(open_remote(server.url), tmp_path / "copy") == DATA
    assert len(server.of(NAME)) > QUICK.tries


def test_a_server_that_cannot_start_in_the_middle_is_read_from_the_start(server, tmp_path):
    server.ranges = False
    server.faults[NAME] = iter([Fault(cut=1_000_000)])
    assert copied(open_remote(server.url), tmp_path / "copy") == DATA
    assert server.of(NAME)[1] == (0, len(DATA))


@pytest.mark.parametrize("change", [lambda data: data[:-1000], lambda data: b""], ids=["truncated", "empty"])
def test_a_truncated_file_is_one_clear_error_and_leaves_nothing(server, tmp_path, change):
    (server.folder / NAME).write_bytes(change(DATA))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(StorageError) as raised:
        copied(open_remote(server.url), out / "copy")
    size = len(change(DATA))
    assert str(raised.value) == (
        f"{server.url}/{NAME}: cannot be read, 3 times in a row (it ends after {size} bytes, but has {len(DATA)} in the manifest);"
        " see that it is there and whole, and start again"
    )
    assert list(out.iterdir()) == []


def test_a_longer_file_is_refused(server, tmp_path):
    (server.folder / NAME).write_bytes(DATA + b"0")
    with pytest.raises(StorageError, match=rf"{NAME}: has more than its {len(DATA)} bytes of the manifest; copy"):
        copied(open_remote(server.url), tmp_path / "copy")


def test_a_fault_that_lasts_is_an_error_after_the_tries(server, tmp_path):
    server.faults[NAME] = itertools.repeat(Fault(status=500))
    with pytest.raises(StorageError, match=rf"{NAME}: cannot be read, 3 times in a row \(http status 500\); see that"):
        copied(open_remote(server.url), tmp_path / "copy")
    assert len(server.of(NAME)) == QUICK.tries


@pytest.mark.parametrize(("status", "words"), [(404, "there is no such file"), (403, "http status 403"), (401, "http status 401")])
def test_what_is_not_there_or_not_allowed_is_not_tried_again(server, tmp_path, status, words):
    server.faults[NAME] = itertools.repeat(Fault(status=status))
    with pytest.raises(StorageError, match=rf"{NAME}: cannot be read \({words}\)"):
        copied(open_remote(server.url), tmp_path / "copy")
    assert len(server.of(NAME)) == 1


def test_a_server_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9/set/train-000000\.tar: cannot be read, 3 times in a row"):
        copied(open_remote("http://127.0.0.1:9/set"), tmp_path / "copy")


def test_a_checksum_that_is_wrong_once_is_put_right(server, tmp_path):
    server.faults[NAME] = iter([Fault(flip=1_000_000)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert copied(open_remote(server.url), tmp_path / "copy", keep_damaged=True) == DATA
    assert server.of(NAME) == [(0, len(DATA))] * 2


def test_a_file_that_is_damaged_where_it_lies_is_kept_with_a_warning_or_refused(server, tmp_path):
    damaged = bytearray(DATA)
    damaged[1_000_000] ^= 1
    (server.folder / NAME).write_bytes(damaged)
    with pytest.warns(UserWarning, match=rf"{NAME}: is damaged where it lies .*its damaged samples will be left out"):
        assert copied(open_remote(server.url), tmp_path / "copy", keep_damaged=True) == damaged
    assert len(server.of(NAME)) == 2
    with pytest.raises(StorageError, match=rf"{NAME}: its sha256 is not that of the manifest, however often it is read; copy"):
        copied(open_remote(server.url), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_checksums_that_are_wrong_in_changing_ways_are_refused(server, tmp_path):
    server.faults[NAME] = (Fault(flip=place) for place in itertools.count())
    with pytest.raises(StorageError, match="its sha256 is not that of the manifest"):
        copied(open_remote(server.url), tmp_path / "copy", keep_damaged=True)
    assert len(server.of(NAME)) == 3


def test_tokens_and_passwords_are_sent_and_not_told(server, tmp_path):
    url = server.url.replace("http://", "http://user:secret@") + "?token=secret"
    remote = open_remote(url)
    assert copied(remote, tmp_path / "copy") == DATA
    for name in ("absent", NAME):
        server.faults[NAME] = itertools.repeat(Fault(status=401))
        with pytest.raises(StorageError, match="cannot be read") as raised:
            copied(remote, tmp_path / "other", FileRecord(name, 1, ""))
        assert "secret" not in str(raised.value)
        assert f"/set/{name}:" in str(raised.value)


@pytest.mark.parametrize("location", ["memory://set", "file://{folder}", "{folder}"])
def test_what_fsspec_opens_is_copied(tmp_path, location):
    (tmp_path / "set").mkdir()
    location = location.format(folder=tmp_path / "set")
    file_system = fsspec.filesystem("memory") if location.startswith("memory") else fsspec.filesystem("file")
    file_system.pipe_file(f"{location}/{NAME}", DATA)
    assert copied(open_remote(location), tmp_path / "copy") == DATA
    assert b"".join(blocks(open_remote(location), NAME, None, QUICK, lambda: False)) == DATA
    file_system.rm(f"{location}/{NAME}")
    with pytest.raises(StorageError, match=r"train-000000\.tar: cannot be read \(there is no such file\)"):
        copied(open_remote(location), tmp_path / "copy")


@pytest.mark.parametrize("protocol", ["s3", "s3a"])
def test_s3_without_its_library_names_the_extra(monkeypatch, protocol):
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    with pytest.raises(ValueError, match=rf'{protocol}://bucket/set: .*is not installed .*; run pip install "xkd-train\[s3\]"'):
        open_remote(f"{protocol}://bucket/set")


def test_an_unknown_protocol_is_one_clear_error():
    with pytest.raises(ValueError, match=r"nowhere://set: .*nowhere.*; give a folder or a URL that fsspec opens"):
        open_remote("nowhere://set")


def test_a_pipe_is_refused_unless_allowed_and_nothing_runs(tmp_path):
    with pytest.raises(ValueError, match=r"would run a shell command; if you trust it, set data\.allow_pipe: true"):
        open_remote(f"pipe:touch {tmp_path}/ran; cat {{name}}")
    assert not (tmp_path / "ran").exists()


def test_a_pipe_needs_a_place_for_the_name():
    with pytest.raises(ValueError, match=r"pipe:cat set: does not say where the name of a file goes; write \{name\} in its place"):
        open_remote("pipe:cat set", allow_pipe=True)


def test_a_pipe_prints_the_file_and_names_are_quoted(server, tmp_path):
    remote = open_remote(f"pipe:cat {server.folder}/{{name}}", allow_pipe=True)
    assert copied(remote, tmp_path / "copy") == DATA
    with pytest.raises(StorageError, match="No such file or directory"):
        copied(remote, tmp_path / "other", FileRecord(f"{NAME}; touch {tmp_path}/ran", 1, ""))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("count", [1000, len(DATA)], ids=["in the middle", "after the last byte"])
def test_the_exit_code_of_a_pipe_counts(server, tmp_path, count):
    command = f"pipe:head -c {count} {server.folder}/{{name}}; echo it broke >&2; exit 3"
    remote = open_remote(command, allow_pipe=True)
    with pytest.raises(StorageError, match=r"3 times in a row \(the command ended with exit code 3: it broke\)"):
        copied(remote, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_pipe_that_breaks_once_goes_on(server, tmp_path):
    command = f"pipe:if [ -e {tmp_path}/tried ]; then cat {server.folder}/{{name}}; else touch {tmp_path}/tried; exit 1; fi"
    assert copied(open_remote(command, allow_pipe=True), tmp_path / "copy") == DATA


def test_a_pipe_ends_with_the_copy(server, tmp_path):
    """All that the command started, when the copy is given up."""
    command = f"pipe:(sleep 1000 & echo $! > {tmp_path}/pid; cat {server.folder}/{{name}}; wait)"
    copying = blocks(open_remote(command, allow_pipe=True), NAME, len(DATA), QUICK, lambda: False)
    next(copying)
    pid = int((tmp_path / "pid").read_text())
    copying.close()
    wait_for_end(pid)  # or the test runs into its time limit


READ_IN_A_THREAD = """
import sys, threading, time
from xkd.pipelines.store.remote import open_remote
from xkd.pipelines.store.download import PATIENCE, blocks

def read():
    for _ in blocks(open_remote(sys.argv[1], allow_pipe=True), "name", None, PATIENCE, lambda: False):
        print("reads", flush=True)

threading.Thread(target=read, daemon=True).start()
time.sleep(1000)
"""


def test_a_pipe_ends_with_the_program(tmp_path):
    """All that the command started, on Ctrl-C in the middle of a read; nor does the reading thread start it again."""
    command = f"pipe:: {{name}}; (sleep 1000 & echo $! >> {tmp_path}/pids; echo begun; wait)"
    with subprocess.Popen([sys.executable, "-c", READ_IN_A_THREAD, command], stdout=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"reads\n"
        program.send_signal(signal.SIGINT)
        assert program.wait() != 0
    [pid] = (tmp_path / "pids").read_text().split()
    wait_for_end(int(pid))  # or the test runs into its time limit


def wait_for_end(pid: int) -> None:
    """Returns when a process is gone or only waits to be collected."""
    while (status := Path(f"/proc/{pid}/stat")).exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
