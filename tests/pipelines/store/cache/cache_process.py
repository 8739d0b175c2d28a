"""What a process of its own does with a cache, and what it takes of the disk."""

import os
import subprocess
import sys
from pathlib import Path

from tests.pipelines.store.cache.caches import NAMES
from xkd.pipelines.store.cache_room import ACCOUNTING, LOCK
from xkd.pipelines.store.range_locks import LockFile

# What a process of its own does with a cache: URL FOLDER LIMIT WHAT.
RUN = """
import os, random, sys
from pathlib import Path
from xkd.pipelines.shards.open_files import OpenFiles
from xkd.pipelines.store.cache import ShardCache
from xkd.pipelines.store.cache_room import Room
from xkd.pipelines.store.remote import open_remote
from xkd.pipelines.store.download import Patience

url, folder, limit, what, *rest = sys.argv[1:]
cache = ShardCache(
    open_remote(url), Path(folder), int(limit) or None, evicts=what != "stage", patience=Patience(tries=3, first_wait_seconds=0.01)
)
names = [shard.name for shard in cache.manifest.shards]

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
    draw, tars = random.Random(int(rest[0])), OpenFiles(cache)
    order = draw.choices(names, k=int(rest[1]))
    for place, name in enumerate(order):
        cache.ahead(order[place : place + 3])
        expected = (Path(rest[2]) / f"{name}.tar").read_bytes()
        assert tars.pread(Path(name), 0, len(expected)) == expected, name
        tars.close()  # to ask for it again
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


def left_behind(folder):
    """Everything but finished files and the lock."""
    finished = {"manifest.json", *(f"{name}{suffix}" for name in NAMES for suffix in (".tar", ".safetensors"))}
    return [path for path in folder.glob("**/*") if path.is_file() and path.name not in finished | {LOCK}]
