"""Slows real runs down from outside in five ways, and leaves two alone: does `xkd bench step --explain` name the cause?

`python -m xkd.benchmarks.explain_cases`; the finder is another process, told of nothing but the configuration.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil

from xkd.benchmarks import command
from xkd.benchmarks.explain.command import NOTHING
from xkd.benchmarks.results import Recorder, Row, as_text, markdown
from xkd.benchmarks.shards import given_or_made
from xkd.benchmarks.slow_server import slow_server
from xkd.benchmarks.startup import repeat_shard
from xkd.train.distributed import free_port

# The demonstration with wider networks, so that on two cores training takes longer than loading.
CONFIG = ("--config", "pretrain/demo.yaml")
NETWORK = ("model.encoder={dim: 192, depth: 3, heads: 3}", "data.test=null", "log.tensorboard=false", "data.read_ahead=16")
BATCH = 16  # clips a rank
SHARD_CLIPS, SHARDS = 8, 64
BYTES_PER_SECOND = 0.5e6  # a run that is not held up reads several times as many
PULSE_SECONDS = 0.25  # of standing still, and as many of going on
POLL_SECONDS = 0.1
LONGEST_SECONDS = 1800
SHOWN = ("case", "expected", "found", "right", "disturbed", "clips_per_s", "seconds")


@dataclass(frozen=True)
class Case:
    """A run, the cause that it is to be found to have, and what slows it down: before its command, or beside the process."""

    name: str
    expected: str = NOTHING
    ranks: int = 1
    batch: int = BATCH
    before: tuple[str, ...] = ()
    module: str = "xkd"
    slowly_read: bool = False
    beside: Callable[[subprocess.Popen], AbstractContextManager] = nullcontext


@contextmanager
def pulsed(launcher: subprocess.Popen) -> Iterator[None]:
    """Stops rank 1 and has it go on, again and again, while this is open."""
    ended = threading.Event()

    def pulse():
        rank = None
        while rank is None and not ended.wait(POLL_SECONDS):
            rank = _rank_1(launcher)
        while rank is not None and rank.is_running() and not ended.is_set():
            try:
                rank.send_signal(signal.SIGSTOP)
                time.sleep(PULSE_SECONDS)
                rank.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                return
            ended.wait(PULSE_SECONDS)

    thread = threading.Thread(target=pulse, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _rank_1(launcher: subprocess.Popen) -> psutil.Process | None:
    try:
        for process in psutil.Process(launcher.pid).children(recursive=True):
            if process.environ().get("RANK") == "1":
                return process
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has ended, or has not begun
        pass
    return None


CASES = (
    Case("control, one rank"),
    Case("control, two ranks", ranks=2),
    Case("throttled reads", "slow storage", batch=BATCH // 2, slowly_read=True),
    Case("one core", "too few cores", before=("taskset", "--cpu-list", "0")),
    Case("tiny batch", "a small batch", batch=1),
    Case("slow optimizer", "a slow optimizer", module="xkd.benchmarks.slow_optimizer"),
    Case("one rank stopped and continued", "a slow rank", ranks=2, beside=pulsed),
)


def explain(case: Case, shards: Path, seconds: float) -> dict:
    """What the finder says of a case. Raises RuntimeError, with what it wrote, where it fails."""
    with tempfile.TemporaryDirectory() as folder, _location(case, shards, Path(folder)) as location:
        report = Path(folder) / "report.json"
        launched = ("torch.distributed.run", f"--nproc_per_node={case.ranks}", f"--master_port={free_port()}", "-m")
        start = (*case.before, sys.executable, "-m", *(launched if case.ranks > 1 else ()), case.module)
        options = (*CONFIG, "--seconds", str(seconds), "--json", str(report))
        fields = (*NETWORK, *location, f"train.global_batch={case.ranks * case.batch}")
        written = (*start, "bench", "step", "--explain", *options, *fields)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with (
            open(Path(folder) / "log", "w+") as log,
            subprocess.Popen(written, stdout=log, stderr=log, env=environment) as run,
            case.beside(run),
        ):
            try:
                code = run.wait(LONGEST_SECONDS)
            except subprocess.TimeoutExpired:
                run.terminate()
                code = "none in time"
            log.seek(0)
            if code != 0:
                raise RuntimeError(f"{case.name}: exit code {code}\n{log.read()}")
            return json.loads(report.read_text()) | {"text": log.read()}


@contextmanager
def _location(case: Case, shards: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    if not case.slowly_read:
        yield (f"data.train={shards}",)
        return
    with slow_server(shards, BYTES_PER_SECOND) as url:
        yield f"data.train={url}", f"data.cache_dir={folder / 'cache'}"


@contextmanager
def many_shards(clips: int = SHARD_CLIPS, shards: int = SHARDS) -> Iterator[Path]:
    """A shard set of so many links to one shard of AV-Digits."""
    with given_or_made(None, clips) as one, tempfile.TemporaryDirectory(dir=one.parent) as folder:
        yield repeat_shard(one, Path(folder) / "many", clips * shards)


def row(recorder: Recorder, case: Case, found: dict, seconds: float) -> Row:
    causes = [cause["cause"] for cause in found["causes"]] or [NOTHING]
    facts = {
        "case": case.name,
        "expected": case.expected,
        "found": causes[0],
        "right": "yes" if causes[0] == case.expected else "NO",
        "also": "; ".join(causes[1:]),
        "seen": found["causes"][0]["seen"] if found["causes"] else "",
        "setting": found["causes"][0]["setting"] if found["causes"] else "",
        "disturbed": "yes" if found["disturbed"] else "",
        "others_share": found["others"],
        "steps": found["steps"],
        "clips_per_s": found["clips_per_second"],
        "seconds": seconds,
    }
    return as_text(facts | recorder.origin)


def table(rows: Sequence[Row]) -> str:
    """A line for each case: how often its cause was found, and what the newest run saw of it."""
    lines = []
    for case in CASES:
        own = [found for found in rows if found["case"] == case.name]
        if own:
            counts = {"runs": len(own), "right": sum(found["right"] == "yes" for found in own)}
            counts["disturbed"] = sum(found["disturbed"] == "yes" for found in own)
            shown = {"case": case.name, "to be found": case.expected}
            newest = {"newest: found": own[-1]["found"], "seen": own[-1]["seen"], "set": own[-1]["setting"]}
            lines.append({**shown, **{name: str(count) for name, count in counts.items()}, **newest})
    return markdown(lines, columns=tuple(lines[0])) if lines else "No case has been run yet.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("explain_cases", "Slow runs down from outside and see whether the cause is found.", rounds=1)
    parser.add_argument("--seconds", type=float, default=10, help="of steps that are looked at in each case (default 10)")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="(default: all)")
    parser.add_argument("--show", action="store_true", help="print what the finder says")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(arguments)
    recorder = Recorder.start("explain_cases", ["python", "-m", "xkd.benchmarks.explain_cases", *arguments])
    rows = []
    with many_shards() as shards:
        for _ in range(options.rounds):
            for case in CASES:
                if options.cases and case.name not in options.cases:
                    continue
                start = time.monotonic()
                found = explain(case, shards, options.seconds)
                rows.append(row(recorder, case, found, time.monotonic() - start))
                if options.show:
                    print(f"--- {case.name}\n{found['text']}", flush=True)
    command.finish(rows, options.csv, columns=tuple(rows[0]), shown=SHOWN)
    return 0 if all(found["right"] == "yes" for found in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
