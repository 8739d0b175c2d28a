"""What the drivers of test_crew.py do, and what their points call; a point imports no more than this."""

import os
import sys
import time


def own_rank():
    return os.environ["RANK"], os.environ["MASTER_PORT"]


def fail_on_rank_1():
    if os.environ["RANK"] == "1":
        raise ValueError("rank 1 cannot")
    time.sleep(600)


def drive():
    from xkd.benchmarks.sweep.crew import crew
    from xkd.train.distributed import find_place

    with crew(find_place()) as drivers:
        rank = drivers.place.rank
        print(drivers.agree(f"from {rank}"), drivers.each(rank))
        found, reason = drivers.call(own_rank, seconds=120)
        print([own for own, _ in found], len({port for _, port in found}), found[0][1] != os.environ["MASTER_PORT"], reason)
        print(*drivers.call(fail_on_rank_1, seconds=500))
        print([own for own, _ in drivers.call(own_rank, seconds=120)[0]])


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    import crew_work

    crew_work.drive()
