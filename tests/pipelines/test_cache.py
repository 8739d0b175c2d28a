import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.pipelines.shard_server import Fault, ShardServer
from xkd.benchmarks.random_shards import write_random_shards
from xkd.pipelines.cache import ShardCache
from xkd.pipelines.cache_room import ACCOUNTING, LOCK, Refusal, Room
from xkd.pipelines.range_locks import LockFile
from xkd.pipelines.remote import open_remote
from xkd.pipelines.shard_files import Stopped, StorageError
from xkd.pipelines.transfer import Patience

NUM_SHARDS = 12
QUICK = Patience(tries=3, first_wait_seconds=0.01)
FOREVER = 1000.0
NAMES = [f"train-{number:06d}" for number in range(NUM_SHARDS)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A set of 12 shards of equal size, about 300 kB."""
    folder = tmp_path_factory.mktemp("cache") / "shards"
    return write_random_shards(folder, samples=NUM_SHARDS, shard_samples=1, video_bytes=300_000, seconds=0.125)


@pytest.fixture
def server(shards):
    with ShardServer(shards) as server:
        yield server


@pytest.fixture
def tar_bytes(shards):
    (size,) = {path.stat().st_size for path in shards.glob("*.tar")}
    return size


def open_cache(server, folder, limit_bytes=None, **options):
    return ShardCache(open_remote(server.url), folder, limit_bytes, patience=QUICK, **options)


def tars(folder):
    return sorted(path.stem for path in folder.glob("*/*.tar"))


def read(files, name):
    """The bytes of a shard, asked for again when it goes before it is opened."""
    while True:
        try:
            return files.ensure(name).read_bytes()
        except FileNotFoundError:
            continue


def original(server, name):
    return (server.folder / f"{name}.tar").read_bytes()


def test_a_shard_is_copied_when_it_is_needed_and_once(server, tmp_path):
    cache = open_cache(server, tmp_path)
    assert tars(tmp_path) == []
    for _ in range(2):
        assert read(cache, NAMES[3]) == original(server, NAMES[3])
    assert tars(tmp_path) == [NAMES[3]]
    assert len(server.of("train-000003.tar")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["lock", cache.folder.name])
    for name in ("manifest.json", *(f"{name}.safetensors" for name in NAMES)):
        assert (cache.folder / name).read_bytes() == (server.folder / name).read_bytes()


def test_threads_that_need_one_shard_copy_it_once(server, tmp_path):
    cache = open_cache(server, tmp_path)
    found = []
    threads = [threading.Thread(target=lambda: found.append(read(cache, NAMES[0]))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [original(server, NAMES[0])] * 16
    assert len(server.of("train-000000.tar")) == 1


def wait_until(condition):
    while not condition():
        time.sleep(0.01)


def test_shards_that_are_announced_come_in_the_background(server, tmp_path):
    cache = open_cache(server, tmp_path)
    cache.ahead(NAMES[2:6])
    wait_until(lambda: tars(tmp_path) == NAMES[2:6])
    assert {name for name, _, _ in server.served if name.endswith(".tar")} == {f"{name}.tar" for name in NAMES[2:6]}
    cache.close()


def test_the_tar_unused_for_longest_makes_way(server, tmp_path, tar_bytes):
    cache = open_cache(server, tmp_path, 3 * tar_bytes)
    for name in (NAMES[0], NAMES[1], NAMES[2], NAMES[0], NAMES[3]):
        cache.ensure(name)
    assert tars(tmp_path) == [NAMES[0], NAMES[2], NAMES[3]]


def test_tars_that_lie_beside_the_sets_of_the_cache_never_make_way(server, tmp_path, tar_bytes):
    mine = tmp_path / "my-shards" / "train-000000.tar"
    mine.parent.mkdir()
    mine.write_bytes(bytes(tar_bytes))
    cache = open_cache(server, tmp_path, 2 * tar_bytes)
    for name in NAMES[:4]:
        cache.ensure(name)
    assert tars(cache.folder.parent) == sorted([*NAMES[2:4], mine.stem])
    assert mine.stat().st_size == tar_bytes


def test_the_room_of_a_removed_tar_is_free_even_where_it_is_open_but_not_that_of_one_with_another_name(server, tmp_path, tar_bytes):
    cache = open_cache(server, tmp_path / "cache", 2 * tar_bytes)
    with cache.ensure(NAMES[0]).open("rb") as opened, cache.ensure(NAMES[1]).open("rb") as linked:
        os.link(linked.name, tmp_path / "mine.tar")
        for name in NAMES[2:4]:
            cache.ensure(name)
        assert (os.fstat(opened.fileno()).st_nlink, os.fstat(opened.fileno()).st_size) == (0, 0)
    assert (tmp_path / "mine.tar").read_bytes() == original(server, NAMES[1])


def test_filling_ahead_stops_at_the_limit_and_goes_on_when_the_window_moves(server, tmp_path, tar_bytes):
    """What is announced is not removed for what comes after it."""
    cache = open_cache(server, tmp_path, 3 * tar_bytes)
    cache.ensure(NAMES[11])
    cache.ahead(NAMES[:6])
    wait_until(lambda: len(tars(tmp_path)) == 3 and NAMES[11] not in tars(tmp_path))
    first = tars(tmp_path)
    assert set(first) < set(NAMES[:6])
    time.sleep(0.3)  # time in which a wrong one could come
    assert tars(tmp_path) == first
    cache.ahead(NAMES[2:6])
    wait_until(lambda: len(tars(tmp_path)) == 3 and set(tars(tmp_path)) < set(NAMES[2:6]))
    cache.close()


def test_what_another_reader_has_announced_is_the_last_to_make_way(server, tmp_path, tar_bytes):
    one, other = (open_cache(server, tmp_path, 3 * tar_bytes) for _ in range(2))
    one.ahead([NAMES[0]])
    wait_until(lambda: tars(tmp_path) == [NAMES[0]])
    for name in NAMES[1:6]:
        other.ensure(name)
        assert NAMES[0] in tars(tmp_path)
    one.ahead([])
    other.ensure(NAMES[6])
    other.ensure(NAMES[7])
    assert NAMES[0] not in tars(tmp_path)


def test_the_limit_holds_for_all_sets_of_a_folder(server, shards, tmp_path, tar_bytes):
    there = open_cache(server, tmp_path, 3 * tar_bytes)
    here = ShardCache(open_remote(str(shards)), tmp_path, 3 * tar_bytes)
    assert there.folder != here.folder
    for name in NAMES[:3]:
        there.ensure(name)
    for name in NAMES[:2]:
        assert read(here, name) == original(server, name)
    assert len(tars(tmp_path)) == 3


def test_a_limit_below_the_largest_shard_is_refused(server, tmp_path, tar_bytes):
    with pytest.raises(ValueError, match=rf"data\.cache_bytes: {tar_bytes - 1} is less than the largest shard .* {tar_bytes}; set"):
        open_cache(server, tmp_path, tar_bytes - 1)


def test_a_sidecar_that_changed_on_the_disk_is_copied_again_and_a_tar_of_another_size_too(server, tmp_path):
    cache = open_cache(server, tmp_path)
    path = cache.ensure(NAMES[1])
    path.write_bytes(b"cut")
    sidecar = cache.folder / f"{NAMES[2]}.safetensors"
    sidecar.write_bytes(bytes(sidecar.stat().st_size))
    again = open_cache(server, tmp_path)
    assert sidecar.read_bytes() == (server.folder / sidecar.name).read_bytes()
    assert read(again, NAMES[1]) == original(server, NAMES[1])
    assert len(server.of(sidecar.name)) == 2


def test_a_sidecar_that_is_damaged_at_the_remote_is_refused(server, tmp_path):
    server.faults[f"{NAMES[1]}.safetensors"] = itertools.repeat(Fault(flip=40))
    with pytest.raises(StorageError, match=rf"{NAMES[1]}\.safetensors: its sha256 is not that of the manifest"):
        open_cache(server, tmp_path)
    assert not list(tmp_path.glob(f"*/{NAMES[1]}.safetensors"))


def test_a_shard_that_cannot_be_read_is_an_error_each_time_and_the_others_are_not_hurt(server, tmp_path):
    (path := server.folder / f"{NAMES[0]}.tar").rename(path.with_suffix(".away"))
    try:
        cache = open_cache(server, tmp_path)
        cache.ahead(NAMES[:2])
        for _ in range(2):
            with pytest.raises(StorageError, match=rf"{NAMES[0]}\.tar: cannot be read"):
                cache.ensure(NAMES[0])
        assert read(cache, NAMES[1]) == original(server, NAMES[1])
        assert tars(tmp_path) == [NAMES[1]]
    finally:
        path.with_suffix(".away").rename(path)


def test_all_who_wait_for_a_shard_that_fails_get_the_error_of_one_attempt(server, tmp_path):
    server.faults[f"{NAMES[0]}.tar"] = itertools.repeat(Fault(status=500))
    cache = open_cache(server, tmp_path)
    errors = []

    def wait():
        with pytest.raises(StorageError, match=r"3 times in a row \(http status 500\)") as raised:
            cache.ensure(NAMES[0])
        errors.append(raised.value)

    threads = [threading.Thread(target=wait) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 16
    assert len(server.of("train-000000.tar")) == QUICK.tries


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(cut=1000, stall_seconds=FOREVER)], ids=["backing off", "stalled"])
def test_who_need_not_wait_any_more_does_not(server, tmp_path, fault):
    """While the remote fails, and while it stalls, in the thread that waits and in one that waits for it."""
    server.faults[f"{NAMES[0]}.tar"] = itertools.repeat(fault)
    cache = ShardCache(open_remote(server.url), tmp_path, patience=Patience(tries=1000, first_wait_seconds=1000.0))
    stop, ended = threading.Event(), []

    def wait():
        with pytest.raises(Stopped):
            cache.ensure(NAMES[0], stop)
        ended.append(True)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.of("train-000000.tar"))
    stop.set()
    for thread in threads:
        thread.join()
    assert ended == [True, True]
    assert read(cache, NAMES[1]) == original(server, NAMES[1])


def fill_threads():
    return [thread for thread in threading.enumerate() if thread.name == "shard-cache"]


@pytest.mark.parametrize("end", ["close", "collect"])
def test_no_thread_stays_behind(server, tmp_path, end):
    gc.collect()
    wait_until(lambda: not fill_threads())  # those of other tests
    cache = open_cache(server, tmp_path)
    cache.ahead(NAMES[:3])
    wait_until(lambda: tars(tmp_path) == NAMES[:3])
    assert fill_threads()
    if end == "close":
        cache.close()
    else:
        del cache
        gc.collect()
    wait_until(lambda: not fill_threads())


def test_a_closed_cache_takes_announcements_and_gives_nothing(server, tmp_path):
    cache = open_cache(server, tmp_path)
    cache.ensure(NAMES[0])
    cache.close()
    cache.ahead(NAMES[:3])
    cache.ahead([])
    assert cache.ensure(NAMES[0]).exists()
    with pytest.raises(Stopped):
        cache.ensure(NAMES[1])


def test_what_a_kill_left_under_a_partial_name_is_swept_unless_it_is_being_written(server, tmp_path):
    """Where the file system has no files without names."""
    cache = open_cache(server, tmp_path)
    part = cache.folder / f"{NAMES[0]}.tar.part"
    part.touch()
    with Room(tmp_path, None, True).writing(cache.folder / f"{NAMES[0]}.tar", 1000) as writing:
        assert not isinstance(writing, Refusal)
        open_cache(server, tmp_path)
        assert part.exists()
    open_cache(server, tmp_path)
    assert not part.exists()


def test_names_that_lie_elsewhere_are_refused(server, tmp_path, shards):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "manifest.json").write_text((shards / "manifest.json").read_text().replace("train-000003", "../train-000003"))
    with pytest.raises(ValueError, match=r"manifest\.json: names a shard '\.\./train-000003'; a name has letters"):
        ShardCache(open_remote(str(folder)), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# What a process of its own does with a cache: URL FOLDER LIMIT WHAT.
RUN = """
import os, random, sys
from pathlib import Path
from xkd.pipelines.cache import ShardCache
from xkd.pipelines.cache_room import Room
from xkd.pipelines.remote import open_remote
from xkd.pipelines.transfer import Patience

url, folder, limit, what, *rest = sys.argv[1:]
cache = ShardCache(
    open_remote(url), Path(folder), int(limit) or None, evicts=what != "stage", patience=Patience(tries=3, first_wait_seconds=0.01)
)
names = [shard.name for shard in cache.manifest.shards]


def read(name):
    while True:
        try:
            return cache.ensure(name).read_bytes()
        except FileNotFoundError:
            continue


if what == "stage":
    cache.stage()
    print("staged")
elif what == "ensure":
    cache.ensure(names[1])
elif what == "ahead":
    cache.ahead(names)
    cache.ensure(names[1])
elif what == "raise":
    cache.ahead(names)
    cache.ensure(names[0])
    raise RuntimeError("of the consumer")
elif what == "exit":
    cache.ahead(names)
    cache.ensure(names[0])
elif what == "linked":
    for name in names[:2]:
        os.link(cache.ensure(name), Path(folder) / name)
    with Room(Path(folder), None, True).writing(cache.folder / f"{names[2]}.tar", 10**9) as refusal:
        print(refusal)
elif what == "hammer":
    draw = random.Random(int(rest[0]))
    order = draw.choices(names, k=int(rest[1]))
    for place, name in enumerate(order):
        cache.ahead(order[place : place + 3])
        assert read(name) == (Path(rest[2]) / f"{name}.tar").read_bytes(), name
    print("all right")
"""


def start(folder, server, what, *rest, limit_bytes=0):
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    arguments = [server.url, folder, limit_bytes, what, *rest]
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def bytes_taken(folder, processes):
    """Of finished tars and of tars that the processes write, found as anyone can; nothing changes meanwhile."""
    if not (folder / LOCK).exists():
        return 0
    with LockFile(folder / LOCK) as holder, holder.held(*ACCOUNTING):
        finished = sum(path.stat().st_size for path in folder.glob("*/*.tar"))
        return finished + sum(size for process in processes for size in unnamed_files(process.pid, folder))


def unnamed_files(pid, folder):
    """Sizes of the large files without a name that a process has open for writing."""
    for number in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            status, target, info = number.stat(), os.readlink(number), Path(f"/proc/{pid}/fdinfo/{number.name}").read_text()
        except FileNotFoundError:
            continue
        flags = int(info.split("flags:")[1].split()[0], 8)
        if (
            target.startswith(str(folder))
            and status.st_nlink == 0
            and flags & os.O_ACCMODE != os.O_RDONLY
            and status.st_size > 100_000
        ):
            yield status.st_size


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


def left_behind(folder):
    """Everything but finished files and the lock."""
    finished = {"manifest.json", *(f"{name}{suffix}" for name in NAMES for suffix in (".tar", ".safetensors"))}
    return [path for path in folder.glob("**/*") if path.is_file() and path.name not in finished | {LOCK}]


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


# In a mount namespace of its own, which ends with it: a small disk at FOLDER, with SIZE bytes, of which OTHERS are taken.
SMALL_DISK = 'mount -t tmpfs -o size="$2" none "$1" && head -c "$3" /dev/zero > "$1/others" && shift 3 && exec "$@"'


def on_a_small_disk(folder, size, others, server, what, *rest):
    return on_a_small_disk_run(folder, size, others, ON_A_SMALL_DISK, server.url, folder, 0, what, *rest)


def on_a_small_disk_run(folder, size, others, code, *arguments):
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh", str(folder), str(size), str(others)]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a small disk")
    arguments = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run([*unshare, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False)


ON_A_SMALL_DISK = f"""
import traceback
from xkd.pipelines.shard_files import StorageError
try:
    exec({RUN!r})
except StorageError as error:
    print(error)
import sys
from pathlib import Path
print(sorted(str(path.relative_to(sys.argv[2])) for path in Path(sys.argv[2]).glob("**/*.*") if path.suffix != ".safetensors"))
"""


def test_a_cache_on_a_full_disk_goes_on_with_fewer_tars(server, tmp_path, tar_bytes):
    """No limit is set, and the disk holds four of twelve."""
    done = on_a_small_disk(tmp_path, 5 * tar_bytes, tar_bytes // 2, server, "hammer", 0, 50, server.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("all right\n")
    assert 1 <= done.stdout.count(".tar") <= 4
    assert ".part" not in done.stdout


def test_tars_whose_removal_frees_nothing_are_not_all_removed_at_once(server, tmp_path, tar_bytes):
    """They have other names: so have those of a file system that keeps snapshots, or that frees room later."""
    done = on_a_small_disk(tmp_path, 5 * tar_bytes, 0, server, "linked")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Refusal.FULL\n")
    assert done.stdout.count(".tar") == 1


@pytest.mark.parametrize("what", ["stage", "ensure"])
def test_a_disk_that_others_have_filled_is_one_clear_error(server, tmp_path, tar_bytes, what):
    size = 5 * tar_bytes
    done = on_a_small_disk(tmp_path, size, size - (tar_bytes if what == "ensure" else 3 * tar_bytes), server, what)
    assert (done.returncode, done.stderr) == (0, "")
    told, left = done.stdout.splitlines()
    assert "the disk is full (" in told
    assert "make room there, or choose another folder (data.stage_dir, data.cache_dir)" in told
    assert left.count("'") == 2  # one path: the manifest
    assert "manifest.json" in left
