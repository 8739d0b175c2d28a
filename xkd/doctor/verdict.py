"""What a check has found: a verdict, and the way out where it is not good."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "not checked", "warning", "failed"]
WIDTH = 11  # of the longest status


@dataclass(frozen=True)
class Verdict:
    """One finding of a check; what is not ok says how to mend it, or how to have it checked."""

    check: str
    status: Status
    found: str
    fix: str = ""

    def __post_init__(self):
        assert self.fix or self.status == "ok", self

    def lines(self, where: str = "") -> list[str]:
        """How it is shown."""
        shown = [f"{self.status:{WIDTH}}  {self.check}{where}: {self.found}"]
        return shown + [f"{'':{WIDTH}}  -> {self.fix}"] * bool(self.fix)


def ok(check: str, found: str) -> Verdict:
    return Verdict(check, "ok", found)


def judged(check: str, wrong: bool, found: str, fix: str, status: Status = "failed") -> Verdict:
    """ok unless it is wrong; then `status`, with the fix."""
    return Verdict(check, status, found, fix) if wrong else ok(check, found)


def merged(of_ranks: Sequence[tuple[str, Sequence[Verdict]]]) -> list[tuple[str, Verdict]]:
    """The verdicts of several (host, verdicts), each of them once with the hosts that came to it; "" where all hosts did.

    They are in the order in which the ranks came to them, so that what one check has found stays together.
    """
    hosts = list(dict.fromkeys(host for host, _ in of_ranks))
    found: dict[Verdict, list[str]] = {}
    for host, verdicts in of_ranks:
        for verdict in verdicts:
            found.setdefault(verdict, []).append(host)
    checks = list(dict.fromkeys(verdict.check for verdict in found))
    unique = {verdict: list(dict.fromkeys(named)) for verdict, named in found.items()}
    rows = [("" if len(named) == len(hosts) else ", ".join(named), verdict) for verdict, named in unique.items()]
    return sorted(rows, key=lambda row: checks.index(row[1].check))
