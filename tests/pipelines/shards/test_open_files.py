import os
import threading

import pytest

from xkd.pipelines.shards.open_files import TRIES, OpenFiles
from xkd.pipelines.shards.read import UnreadableFile
from xkd.pipelines.shards.shard_files import LocalFiles


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        (tmp_path / f"shard-{number}.tar").write_bytes(bytes([number]) * 1000)
    return tmp_path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_pieces_are_read_and_end_where_the_file_ends(folder):
    files = OpenFiles(LocalFiles(folder))
    assert files.pread(folder / "shard-3.tar", 10, 5) == bytes([3]) * 5
    assert files.pread(folder / "shard-3.tar", 990, 50) == bytes([3]) * 10
    assert files.pread(folder / "shard-3.tar", 2000, 50) == b""


def test_few_files_stay_open_and_none_after_closing(folder):
    before = descriptors()
    files = OpenFiles(LocalFiles(folder), limit=2)
    for _ in range(3):
        for number in range(6):
            assert files.pread(folder / f"shard-{number}.tar", 0, 1) == bytes([number])
            assert descriptors() <= before + 2
    files.close()
    assert descriptors() == before


def test_a_file_is_asked_for_when_it_is_opened_only(folder):
    asked = []

    class Noting(LocalFiles):
        def ensure(self, name, stop=None):
            asked.append(name)
            return super().ensure(name)

    files = OpenFiles(Noting(folder))
    for number in (1, 2, 1, 1, 2):
        files.pread(folder / f"shard-{number}.tar", 0, 1)
    assert asked == ["shard-1", "shard-2"]


def test_a_removed_file_is_readable_until_another_is_opened(folder):
    before = descriptors()
    files = OpenFiles(LocalFiles(folder))
    files.pread(folder / "shard-0.tar", 0, 1)
    (folder / "shard-0.tar").unlink()
    assert files.pread(folder / "shard-0.tar", 0, 1) == b"\0"
    files.pread(folder / "shard-1.tar", 0, 1)
    assert descriptors() == before + 1


def test_a_file_removed_between_asking_and_opening_is_asked_for_again(folder):
    class Evicting(LocalFiles):
        capacity_bytes = 1000

        def ensure(self, name, stop=None):
            path = super().ensure(name)
            if len(evicted) < 15:
                evicted.append(name)
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(b"back")
            return path

    evicted = []
    assert OpenFiles(Evicting(folder)).pread(folder / "shard-0.tar", 0, 9) == b"back"


def test_a_file_of_which_nothing_is_left_is_asked_for_again(folder):
    files = OpenFiles(LocalFiles(folder))
    path = folder / "shard-0.tar"
    files.pread(path, 0, 1)
    with path.open("r+b") as removed:
        path.unlink()
        removed.truncate(0)
    path.write_bytes(b"back")
    assert files.pread(path, 0, 4) == b"back"


def test_two_threads_that_open_one_file_close_no_other_for_it(folder):
    both, asked = threading.Barrier(2), []

    class Together(LocalFiles):
        def ensure(self, name, stop=None):
            asked.append(name)
            if name == "shard-2":
                both.wait(60)
            return super().ensure(name)

    files = OpenFiles(Together(folder), limit=2)
    for number in (0, 1):
        files.pread(folder / f"shard-{number}.tar", 0, 1)
    threads = [threading.Thread(target=files.pread, args=(folder / "shard-2.tar", 0, 1)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files.pread(folder / "shard-1.tar", 0, 1)
    assert sorted(asked) == ["shard-0", "shard-1", "shard-2", "shard-2"]


def test_a_file_that_cannot_be_read_is_tried_again_and_then_named_so(folder):
    class Counting(LocalFiles):
        tries = 0

        def ensure(self, name, stop=None):
            self.tries += 1
            return super().ensure(name)

    files = Counting(folder)
    (folder / "directory.tar").mkdir()
    with pytest.raises(UnreadableFile, match="Is a directory"):
        OpenFiles(files).pread(folder / "directory.tar", 0, 1)
    assert files.tries == TRIES
    with pytest.raises(UnreadableFile, match="No such file"):
        OpenFiles(files).pread(folder / "none.tar", 0, 1)


def test_many_threads_read_from_more_files_than_may_be_open(folder):
    files, wrong = OpenFiles(LocalFiles(folder), limit=2), []

    def read(seed):
        for step in range(300):
            number = (seed + step * (seed + 1)) % 6
            if files.pread(folder / f"shard-{number}.tar", step, 3) != bytes([number]) * 3:
                wrong.append(number)

    before = descriptors()
    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert descriptors() <= before + 2
