"""The table of checks, and how one of them is run without letting it hang the others."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from xkd.doctor import codecs, folders, gpu, ranks, shards, versions
from xkd.doctor.context import Context
from xkd.doctor.verdict import Verdict


@dataclass(frozen=True)
class Check:
    """One check; it is given up after `limit_seconds`."""

    name: str
    run: Callable[[Context], Iterator[Verdict]]
    once_a_node: bool
    limit_seconds: float


CHECKS = (
    Check("versions", versions.check, once_a_node=True, limit_seconds=10),
    Check("driver", gpu.check, once_a_node=False, limit_seconds=15),
    Check("all-reduce", ranks.check, once_a_node=False, limit_seconds=ranks.JOIN_SECONDS + 5),
    Check("decode", codecs.check, once_a_node=False, limit_seconds=20),
    Check("run_dir", folders.check, once_a_node=True, limit_seconds=folders.SEEN_SECONDS + 5),
    Check("shards", shards.check, once_a_node=True, limit_seconds=25),
)


def run(check: Check, context: Context, seconds: float) -> tuple[list[Verdict], bool]:
    """What a check finds within its limit and these seconds, and whether it has ended.

    One that hangs, on storage that does not answer, say, is left behind in its thread.
    """
    found: list[Verdict] = []
    limit = min(check.limit_seconds, seconds)
    if limit <= 0:
        late = Verdict(check.name, "not checked", "the checks before it took too long", "mend what they say, and run it again")
        return [late], True

    def work() -> None:
        if context.device == "gpu":
            torch.cuda.set_device(context.place.local_rank)  # each thread has its own
        try:
            for verdict in check.run(context):
                found.append(verdict)
        except Exception as error:  # noqa: BLE001 (an exception here is a finding, and the other checks are to be made all the same)
            text = f"{type(error).__name__}: {error}"
            found.append(Verdict(check.name, "failed", text, "mend what it says; if it says nothing, report it with `xkd env`"))

    thread = threading.Thread(target=work, name=check.name, daemon=True)
    thread.start()
    thread.join(limit)
    ended = not thread.is_alive()
    if not ended:
        fix = "see what it waits for: a file system or a network that does not answer"
        found = [*found, Verdict(check.name, "failed", f"did not end within {limit:.0f} s", fix)]
    return found, ended
