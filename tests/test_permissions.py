import os

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from xkd.permissions import usual_permissions

WRITERS = {
    "torch": lambda file: save_file({"a": torch.zeros(3)}, file),
    "numpy": lambda file: save_arrays({"a": np.zeros(3)}, file),
    "bytes": lambda file: file.write_bytes(b"abc"),
}


@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_may_be_read_by_those_who_may_read_any_new_file(writer, umask, tmp_path):
    before = os.umask(umask)
    try:
        with usual_permissions(tmp_path / "written"):
            WRITERS[writer](tmp_path / "written")
    finally:
        os.umask(before)
    assert (tmp_path / "written").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "written").stat().st_size > 0
