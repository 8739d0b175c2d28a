"""A cache on a disk that becomes full."""

import pytest

from tests.pipelines.small_disk import on_a_small_disk_run
from tests.pipelines.store.cache.cache_process import RUN


def on_a_small_disk(folder, size, others, server, what, *rest):
    return on_a_small_disk_run(folder, size, others, ON_A_SMALL_DISK, server.url, folder, 0, what, *rest)


ON_A_SMALL_DISK = f"""
import traceback
from xkd.pipelines.shards.shard_files import StorageError
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
