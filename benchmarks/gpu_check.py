"""Runs every check that needs a GPU, each in a process of its own, and writes one folder: report, rows, findings, environment, log.

A check that cannot run is skipped by name with the reason. Exit code 0 when all that could run passed, else 1; with
XKD_REQUIRE_GPU=1 a skip counts as a failure.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from xkd.benchmarks import gpu_media
from xkd.benchmarks.gpu_checks import CHECKS, Check, Context, Findings
from xkd.benchmarks.results import Recorder, append_csv, markdown

REPORT, ROWS, OUTCOMES, ENVIRONMENT, LOG = "report.md", "rows.csv", "checks.json", "environment.json", "log.txt"
FILES = (REPORT, ROWS, OUTCOMES, ENVIRONMENT, LOG)
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class Outcome:
    """How a check ended."""

    name: str
    status: str
    reason: str
    seconds: float
    findings: Findings


def run_all(out: Path, media: Path | None, names: Sequence[str]) -> list[Outcome]:
    """Runs the named checks in order; the folder holds all that is known after each, should the next take the machine down."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    recorder = _recorder()
    (out / ENVIRONMENT).write_text(json.dumps({**recorder.machine, "date": recorder.date}, indent=2) + "\n")
    append_csv(out / ROWS, [])
    outcomes = []
    for check in CHECKS:
        if check.name not in names:
            continue
        outcome = run_one(check, media, out / LOG)
        print(f"{outcome.name}: {outcome.status}{': ' * bool(outcome.reason)}{outcome.reason}", flush=True)
        outcomes.append(outcome)
        append_csv(out / ROWS, outcome.findings.rows)
        (out / OUTCOMES).write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
        (out / REPORT).write_text(report(outcomes, recorder))
    return outcomes


def run_one(check: Check, media: Path | None, log: Path) -> Outcome:
    """Runs a check in a fresh process, unless something that it needs is missing."""
    missing = check.missing(media)
    if missing:
        return Outcome(check.name, SKIPPED, "; ".join(missing), 0.0, Findings())
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, log.open("a") as output:
        found = Path(folder) / "findings.json"
        command = [sys.executable, "-m", "xkd.benchmarks.gpu_check", "--inside", check.name, "--findings", str(found)]
        output.write(f"== {check.name}\n")
        output.flush()
        try:
            code = subprocess.run(
                [*command, *(["--media", str(media)] if media else [])],
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=check.limit_seconds,
                check=False,
            ).returncode
            ended_badly = [f"its process ended with {code}: see {LOG}"] if code else []
        except subprocess.TimeoutExpired:
            ended_badly = [f"stopped after {check.limit_seconds} s, unfinished"]
        findings = Findings(**json.loads(found.read_text())) if found.exists() else Findings()
    findings += Findings(wrong=ended_badly)
    status = FAILED if findings.wrong else PASSED
    return Outcome(check.name, status, brief(findings.wrong), round(time.perf_counter() - start, 1), findings)


def run_inside(name: str, media: Path | None, path: Path) -> None:
    """The check itself, in its own process; `path` holds what has been found so far."""
    (check,) = [check for check in CHECKS if check.name == name]
    findings = Findings()
    for found in check.run(Context(media, _recorder())):
        findings += found
        path.with_suffix(".tmp").write_text(json.dumps(asdict(findings)))
        path.with_suffix(".tmp").replace(path)


def report(outcomes: Sequence[Outcome], recorder: Recorder) -> str:
    """What was found, as markdown."""
    machine = recorder.machine
    gpus = " + ".join(machine["gpus"]) or "no GPU"
    parts = [
        "# GPU check\n",
        f"{recorder.date}, {gpus}, {machine['cpus']} CPUs ({machine['cpu']}), commit {machine['commit']}\n",
        summary(outcomes),
    ]
    for outcome in outcomes:
        facts, rows, wrong = outcome.findings.facts, outcome.findings.rows, outcome.findings.wrong
        if facts or rows or wrong:
            parts.append(f"## {outcome.name}\n")
        parts += [f"Wrong: {text}\n" for text in wrong]
        if facts:
            parts.append(markdown(facts, list(dict.fromkeys(name for fact in facts for name in fact))))
        if rows:
            parts.append(f"{rows[0]['unit']} as items; seconds a round.\n")
            parts.append(markdown(rows))
    return "\n".join(parts)


def brief(wrong: Sequence[str]) -> str:
    """The first line of what is wrong, and how much more there is."""
    if not wrong:
        return ""
    more = f" (and {len(wrong) - 1} more, see {REPORT})" if len(wrong) > 1 else ""
    return wrong[0].splitlines()[0] + more


def summary(outcomes: Sequence[Outcome]) -> str:
    rows = [{"check": each.name, "outcome": each.status, "seconds": each.seconds, "why": each.reason} for each in outcomes]
    return markdown(rows, ("check", "outcome", "seconds", "why"))


def exit_code(outcomes: Sequence[Outcome]) -> int:
    bad = {FAILED, SKIPPED} if os.environ.get("XKD_REQUIRE_GPU") == "1" else {FAILED}
    return int(any(outcome.status in bad for outcome in outcomes))


@contextmanager
def media_folder(given: Path | None) -> Iterator[Path | None]:
    """The folder given, or a temporary one where PyAV is there to fill it, or None."""
    if given or not find_spec("av"):
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield gpu_media.write(Path(folder)).folder


def _recorder() -> Recorder:
    return Recorder.start("gpu-check", ["python", "-m", "xkd.benchmarks.gpu_check"])


def main(arguments: Sequence[str] | None = None) -> int:
    names = [check.name for check in CHECKS]
    parser = argparse.ArgumentParser(prog="python -m xkd.benchmarks.gpu_check", description="Run the checks that need a GPU.")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder to write (default gpu-check)")
    parser.add_argument("--media", type=Path, help="folder made by gpu_media (default: a temporary one, where PyAV is installed)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CHECK", help=f"some of: {' '.join(names)}")
    parser.add_argument("--inside", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--findings", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        run_inside(options.inside, options.media, options.findings)
        return 0
    with media_folder(options.media) as media:
        outcomes = run_all(options.out, media, options.only)
    print(f"\n{summary(outcomes)}\nwritten to {options.out}: {', '.join(FILES)}")
    return exit_code(outcomes)


if __name__ == "__main__":
    raise SystemExit(main())
