"""How a check of the GPU has ended, and how that is told: as a report, as rows, as a short table."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import shorten

from xkd.benchmarks.findings import Findings
from xkd.benchmarks.harness import TOTAL
from xkd.benchmarks.results import Recorder, Row, as_text, markdown

PASSED, FAILED, SKIPPED, CUT = "passed", "failed", "skipped", "cut short"
RECORDED = ("date", "check", "outcome", "seconds", "why", "gpu", "cpu", "cpus", "torch", "dali", "deepspeed", "triton", "commit")
AIM = 1.2  # clips a second of the loader, in those that a step takes


@dataclass(frozen=True)
class Outcome:
    """How a check ended."""

    name: str
    status: str
    reason: str
    seconds: float
    findings: Findings


def judged(name: str, findings: Findings, left_out: Sequence[str], seconds: float) -> Outcome:
    """How a check that ran has ended."""
    if findings.wrong:
        return Outcome(name, FAILED, brief(findings.wrong), seconds, findings)
    if left_out:
        return Outcome(name, CUT, f"{', '.join(left_out)} left out for want of time: --times 3 gives more", seconds, findings)
    return Outcome(name, PASSED, "", seconds, findings)


def outcome_rows(outcomes: Sequence[Outcome], recorder: Recorder) -> Iterator[Row]:
    """A row of RECORDED for each check."""
    for each in outcomes:
        own = as_text({"check": each.name, "outcome": each.status, "seconds": each.seconds, "why": each.reason})
        yield {name: (recorder.origin | own)[name] for name in RECORDED}


def report(outcomes: Sequence[Outcome], recorder: Recorder) -> str:
    """What was found, as markdown."""
    machine = recorder.machine
    gpus = " + ".join(machine["gpus"]) or "no GPU"
    parts = [
        "# GPU check\n",
        f"{recorder.date}, {gpus}, {machine['cpus']} CPUs ({machine['cpu']}), commit {machine['commit']}\n",
        summary(outcomes),
        loader_over_step(outcomes),
    ]
    for outcome in outcomes:
        facts, rows, wrong = outcome.findings.facts, outcome.findings.rows, outcome.findings.wrong
        if facts or rows or wrong:
            parts.append(f"## {outcome.name}\n")
        parts += [f"Wrong: {text}\n" for text in wrong]
        parts += [markdown(alike, tuple(alike[0])) for alike in by_columns(facts)]
        if rows:
            parts.append(f"{rows[0]['unit']} as items; seconds a round.\n")
            parts.append(markdown(rows))
    return "\n".join(parts)


def by_columns(facts: Iterable[dict]) -> Iterator[list[dict]]:
    """The facts that are rows of one table, table by table."""
    tables: dict[tuple, list[dict]] = {}
    for fact in facts:
        tables.setdefault(tuple(fact), []).append(fact)
    yield from tables.values()


def loader_over_step(outcomes: Sequence[Outcome]) -> str:
    """How the loader's best clips a second compare with those of a step on batches at hand, where both were measured."""
    rates = {
        outcome.name: [*_rates(outcome.findings.rows)] for outcome in outcomes if outcome.name in ("loader-clips", "bench-step")
    }
    if len(rates) < 2 or not all(rates.values()):
        return ""
    loader, step = max(rates["loader-clips"]), max(rates["bench-step"])
    told = f"Loader {loader:.0f} clips/s, step on batches at hand {step:.0f}: ratio {loader / step:.2f}"
    return f"{told}, the aim is {AIM} or more.\n"


def brief(wrong: Sequence[str]) -> str:
    """The first line of what is wrong, and how much more there is."""
    if not wrong:
        return ""
    more = f" (and {len(wrong) - 1} more, see the report)" if len(wrong) > 1 else ""
    return wrong[0].splitlines()[0] + more


def summary(outcomes: Sequence[Outcome]) -> str:
    rows = [{"check": each.name, "outcome": each.status, "seconds": each.seconds, "why": each.reason} for each in outcomes]
    return markdown(rows, ("check", "outcome", "seconds", "why"))


def short_table(outcomes: Sequence[Outcome]) -> str:
    """A line for each check: how it ended, and its best rate or, cut to a line's length, why it has none."""
    width = max(len(each.name) for each in outcomes)
    lines = (
        (f"{each.name:<{width}}", f"{each.status:<9}", f"{each.seconds:5.1f} s", shorten(each.reason, 80) or best(each.findings))
        for each in outcomes
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def best(findings: Findings) -> str:
    """The highest rate that was found, if there is one."""
    rates = [*_rates(findings.rows), *(fact["clips/s"] for fact in findings.facts if "clips/s" in fact)]
    unit = findings.rows[0]["unit"] if findings.rows else "clip"
    return f"up to {max(rates):.4g} {unit}/s" if rates else ""


def _rates(rows: Iterable[Row]) -> Iterator[float]:
    """Items a second of whole rounds; what was not measured has none."""
    return (float(row["items_per_s"]) for row in rows if row["part"] == TOTAL and row["items_per_s"])
