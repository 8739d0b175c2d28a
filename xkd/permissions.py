"""Files that colleagues can read."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def usual_permissions(file: Path) -> Iterator[None]:
    """What is written to `file` inside has the permissions of any new file; safetensors lets nobody but the owner read its own."""
    file.touch()
    mode = stat.S_IMODE(file.stat().st_mode)
    yield
    file.chmod(mode)
