"""Runs every check that needs a GPU, each in a process of its own, and writes one folder: report, rows, findings, environment, log.

A check that cannot run is skipped by name with the reason; one that has more to measure than time is cut short, and keeps what it
has. Exit code 0 when all that could run passed, else 1; with XKD_REQUIRE_GPU=1 what was skipped or cut short counts as failed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TextIO

from xkd.benchmarks import gpu_media
from xkd.benchmarks.findings import Context, Findings
from xkd.benchmarks.gpu_checks import CHECKS, MEDIA_SECONDS, Check
from xkd.benchmarks.gpu_report import CUT, FAILED, RECORDED, SKIPPED, Outcome, judged, outcome_rows, report, short_table
from xkd.benchmarks.results import Recorder, append_csv

REPORT, ROWS, TABLE, OUTCOMES = "report.md", "rows.csv", "checks.csv", "checks.json"
ENVIRONMENT, LOG = "environment.json", "log.txt"
FILES = (REPORT, ROWS, TABLE, OUTCOMES, ENVIRONMENT, LOG)
SHARE_BEFORE_CUT = 0.75  # of a check's time, after which it begins nothing more; what is under way may take the rest


def run_all(out: Path, media: Path | None, names: Sequence[str], times: float = 1.0, spare: float = 0.0) -> list[Outcome]:
    """Runs the named checks in order; the folder holds all that is known after each, should the next take the machine down.

    Each may take `times` its limit, and what is left of `spare` seconds and of the limits of those before it: together they keep
    within the sum.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    recorder = _recorder()
    (out / ENVIRONMENT).write_text(json.dumps({**recorder.machine, "date": recorder.date}, indent=2) + "\n")
    append_csv(out / ROWS, [])
    outcomes, left = [], spare
    for check in (check for check in CHECKS if check.name in names):
        seconds = times * check.limit_seconds + left
        outcome = run_one(check, media, out / LOG, seconds)
        left = max(0.0, seconds - outcome.seconds)
        print(f"{outcome.name}: {outcome.status}{': ' * bool(outcome.reason)}{outcome.reason}", flush=True)
        outcomes.append(outcome)
        append_csv(out / ROWS, outcome.findings.rows)
        (out / TABLE).unlink(missing_ok=True)
        append_csv(out / TABLE, outcome_rows(outcomes, recorder), RECORDED)
        (out / OUTCOMES).write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
        (out / REPORT).write_text(report(outcomes, recorder))
    return outcomes


def run_one(check: Check, media: Path | None, log: Path, seconds: float) -> Outcome:
    """Runs a check in a fresh process, which is killed after so many seconds, unless something that it needs is missing."""
    start, missing = time.perf_counter(), check.missing(media)
    if missing:
        return Outcome(check.name, SKIPPED, "; ".join(missing), 0.0, Findings())
    with tempfile.TemporaryDirectory() as folder, log.open("a") as output:
        found = Path(folder) / "findings.json"
        command = [sys.executable, "-m", "xkd.benchmarks.gpu_check", "--inside", check.name, "--findings", str(found)]
        command += ["--seconds", str(SHARE_BEFORE_CUT * seconds), *(["--media", str(media)] if media else [])]
        output.write(f"== {check.name}\n")
        output.flush()
        try:
            code = run_alone(command, output, seconds, Path(folder))
            ended_badly = [f"its process ended with {code}: see {LOG}"] if code else []
        except subprocess.TimeoutExpired:
            ended_badly = [f"stopped after {seconds:.0f} s, unfinished"]
        known = json.loads(found.read_text()) if found.exists() else {"findings": {}, "left_out": []}
    findings = Findings(**known["findings"]) + Findings(wrong=ended_badly)
    return judged(check.name, findings, known["left_out"], round(time.perf_counter() - start, 1))


def run_alone(command: Sequence[str], output: TextIO, seconds: float, folder: Path) -> int:
    """The exit code of a command whose temporary files go to `folder`; no process that it has started outlives it.

    Raises TimeoutExpired where it takes longer than `seconds`, and ends it then.
    """
    environment = os.environ | {"TMPDIR": str(folder)}
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        return process.wait(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_inside(name: str, media: Path | None, path: Path, seconds: float) -> None:
    """The check itself, in its own process; `path` holds what has been found so far. After `seconds` it begins nothing more."""
    (check,) = [check for check in CHECKS if check.name == name]
    findings, context = Findings(), Context(media, _recorder(), end=time.perf_counter() + seconds)
    for found in chain(check.run(context), [Findings()]):  # the last one tells what was left out
        findings += found
        path.with_suffix(".tmp").write_text(json.dumps({"findings": asdict(findings), "left_out": context.left_out}))
        path.with_suffix(".tmp").replace(path)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    bad = {FAILED, SKIPPED, CUT} if os.environ.get("XKD_REQUIRE_GPU") == "1" else {FAILED}
    return int(any(outcome.status in bad for outcome in outcomes))


@contextmanager
def media_folder(given: Path | None, names: Sequence[str]) -> Iterator[Path | None]:
    """The folder given; else, where media are all that some of the checks lack and PyAV is there, a temporary one; or None."""
    lacking = [check.missing(None) for check in CHECKS if check.name in names]
    if given or not find_spec("av") or not any(len(reasons) == 1 and reasons[0].startswith("media") for reasons in lacking):
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
    parser.add_argument("--times", type=float, default=1.0, help="multiplies the time that every check may take (default 1)")
    parser.add_argument("--inside", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--findings", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        run_inside(options.inside, options.media, options.findings, options.seconds)
        return 0
    start = time.perf_counter()
    with media_folder(options.media, options.only) as media:
        spare = max(0.0, options.times * MEDIA_SECONDS - (time.perf_counter() - start))
        outcomes = run_all(options.out, media, options.only, options.times, spare)
    print(f"\n{short_table(outcomes)}\n\nwritten to {options.out}: {', '.join(FILES)}")
    return exit_code(outcomes)


if __name__ == "__main__":
    raise SystemExit(main())
