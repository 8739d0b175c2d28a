import os
import subprocess
import sys
from pathlib import Path

import pytest

from xkd.train.distributed import free_port

ROOT = Path(__file__).parents[3]
WORK = Path(__file__).parent / "crew_work.py"


@pytest.mark.long
def test_drivers_of_two_ranks_go_on_together_after_a_point_that_fails_on_one():
    shared = {**os.environ, "PYTHONPATH": f"{ROOT}:{WORK.parent}", "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    drivers = [
        subprocess.Popen(
            [sys.executable, str(WORK)], env=shared | {"RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    told = [driver.communicate(timeout=280)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0]
    assert told[0] == told[1]
    assert told[0].splitlines() == ["from 0 [0, 1]", "['0', '1'] 1 True None", "[] rank 1 cannot", "['0', '1']"]
