"""Makes the checks on every process of a launch; the first process tells what all have found."""

import json
import socket
import time
from dataclasses import asdict, dataclass
from datetime import timedelta

from torch.distributed import HashStore, Store
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from xkd.doctor import versions
from xkd.doctor.checks import CHECKS, run
from xkd.doctor.context import Context
from xkd.doctor.verdict import Verdict, merged
from xkd.env import environment
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place, claim_device, find_place

SECONDS = 50.0  # for all checks; what has not begun then is not made
MEET_SECONDS = 30.0
REPORT_SECONDS = 5.0  # that the last process may be behind the first
MEET_FIX = "start all nodes at once, with a MASTER_ADDR and MASTER_PORT that every node reaches (firewall, name resolution)"


@dataclass(frozen=True)
class Diagnosis:
    """What to print on this process, if anything, whether all is well, and whether some check still hangs."""

    text: str
    healthy: bool
    hangs: bool


@dataclass(frozen=True)
class Report:
    """What one process has found."""

    host: str
    verdicts: list[Verdict]
    environment: dict  # of the first process of each node; the others leave it empty

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        fields = json.loads(text)
        return cls(fields["host"], [Verdict(**verdict) for verdict in fields["verdicts"]], fields["environment"])


def diagnose(config: PretrainConfig | None, seconds: float = SECONDS) -> Diagnosis:
    """Makes all checks. Every process of a launch must call it; the first has the verdicts of all.

    Raises ValueError where a launcher has started them wrongly.
    """
    deadline = time.monotonic() + seconds
    place = find_place()
    device = claim_device(place)
    notes, verdicts = meet(place, min(MEET_SECONDS, seconds))
    context = Context(place, socket.gethostname(), device, config, notes)
    hangs = False
    for check in CHECKS:
        if place.local_rank == 0 or not check.once_a_node:
            found, ended = run(check, context, deadline - time.monotonic())
            verdicts += found
            hangs |= not ended
    own = Report(context.host, verdicts, environment() if place.local_rank == 0 else {})
    if notes is None or place.rank == 0:
        reports = [own] if notes is None else collect(context, own, deadline + REPORT_SECONDS)
        diagnosis = Diagnosis(told(reports), not failures(reports), hangs)
    else:
        context.note(f"report {place.rank}", own.to_json())
        diagnosis = Diagnosis("", True, hangs)  # an exit code of its own would have the launcher end the first process
    if not hangs:
        context.ending.close()
    return diagnosis


def meet(place: Place, seconds: float) -> tuple[Store | None, list[Verdict]]:
    """What all processes write notes in, once all are there, or why they are not."""
    if place.world_size == 1:
        return HashStore(), []
    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=seconds)))
    except RuntimeError as error:
        found = f"rank {place.rank} of {place.world_size}: {str(error).splitlines()[0]}"
        return None, [Verdict("meeting", "failed", found, MEET_FIX)]
    return PrefixStore("xkd doctor", store), []


def collect(context: Context, own: Report, deadline: float) -> list[Report]:
    """The reports of all processes, in rank order, and a failure for each that has not sent one."""
    reports = [own]
    for rank in range(1, context.place.world_size):
        text = context.read_note(f"report {rank}", max(0.1, deadline - time.monotonic()))
        if text is None:
            missing = Verdict("report", "failed", f"rank {rank} has not sent one", "look at what its node has written")
            own.verdicts.append(missing)
        else:
            reports.append(Report.from_json(text))
    return reports


def failures(reports: list[Report]) -> int:
    return len({verdict for _, verdict in rows(reports) if verdict.status == "failed"})


def rows(reports: list[Report]) -> list[tuple[str, Verdict]]:
    """All verdicts, those of several hosts once with their names."""
    found = merged([(report.host, report.verdicts) for report in reports])
    nodes = [(report.host, report.environment) for report in reports if report.environment]
    return [*found, ("", versions.compare(nodes))] if len(nodes) > 1 else found


def told(reports: list[Report]) -> str:
    """The verdicts as text, the worst counted at the end."""
    found = rows(reports)
    lines = [line for hosts, verdict in found for line in verdict.lines(f" ({hosts})" if hosts else "")]
    counts = {status: sum(verdict.status == status for _, verdict in found) for status in ("failed", "warning", "not checked")}
    nodes = sum(bool(report.environment) for report in reports)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "all is well"
    where = f"{nodes} node{'s' * (nodes > 1)}, {len(reports)} process{'es' * (len(reports) > 1)}"
    return "\n".join([*lines, f"{where}: {summary}", ""])
