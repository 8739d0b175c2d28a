"""The main job on the embedded data set: clips, shards, pre-training on two ranks, evaluation, report."""

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from xkd.env import gpu_names
from xkd.train.distributed import free_port

CONFIG = "pretrain/demo.yaml"
RANKS = 2
LAUNCHER_PORT = 29500  # deepspeed's own choice; another run on the machine may have taken it


def parser() -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(prog="xkd demo", description="Run the main job on the embedded data set and write a report.")
    own.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything (default demo)")
    own.add_argument("--train", type=int, default=2000, metavar="N", help="training clips (default 2000)")
    own.add_argument("--test", type=int, default=600, metavar="N", help="test clips (default 600)")
    own.add_argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the pre-training configuration")
    return own


def commands(out: Path, train: int, test: int, overrides: Sequence[str]) -> list[list[str]]:
    """What a user would type, without the leading `python -m`."""
    ranks = min(RANKS, len(gpu_names())) or RANKS
    port = [] if _is_free(LAUNCHER_PORT) else ["--master_port", str(free_port())]
    workers = ["--workers", str(len(os.sched_getaffinity(0)))]
    media, shards, run = out / "media", out / "shards", out / "run"
    fields = [f"data.train={shards / 'train'}", f"data.test={shards / 'test'}", f"run_dir={run}", *overrides]
    return [
        ["xkd", "avdigits", str(media), "--train", str(train), "--test", str(test), *workers],
        *(
            ["xkd", "shards", "write", str(media), "--dataset", "folder", "--split", split, "--out", str(shards / split), *workers]
            for split in ("train", "test")
        ),
        ["deepspeed", "--num_accelerators", str(ranks), *port, "--log_level", "error", "--module", "xkd.train", CONFIG, *fields],
        ["xkd", "report", str(run), "--out", str(out / "report")],
    ]


def main(argv: Sequence[str]) -> int:
    """Run each command of the main job in turn. Returns 0, or the exit code of the first that failed."""
    args = parser().parse_args(argv)
    began = time.monotonic()
    for command in commands(args.out, args.train, args.test, args.overrides):
        print(f"\n$ {shlex.join(command)}", flush=True)
        started = time.monotonic()
        code = _run(command)
        if not code and command[0] == "deepspeed" and not _finished(args.out / "run"):
            code = 1
        print(f"  {time.monotonic() - started:.0f} s", flush=True)
        if code:
            print(f"xkd demo: the command above ended with exit code {code}", file=sys.stderr)
            return code
    print(f"\nThe whole job took {(time.monotonic() - began) / 60:.1f} minutes. Open {args.out / 'report' / 'report.md'}.")
    return 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _run(command: list[str]) -> int:
    """Runs a command with this interpreter, on or off the path; one thread a process, since the ranks fill the CPU."""
    modules = {"xkd": "xkd", "deepspeed": "deepspeed.launcher.runner"}
    program, *arguments = command
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.run([sys.executable, "-m", modules[program], *arguments], env=environment).returncode


def _finished(run_dir: Path) -> bool:
    """Whether the run says so itself: the deepspeed launcher returns 0 when a signal ends it."""
    file = run_dir / "state.json"
    state = json.loads(file.read_text()) if file.exists() else {"status": "failed"}
    if state["status"] != "done":
        print(f"{run_dir}: {state['status']}: {state.get('reason', 'no reason recorded')}", file=sys.stderr)
    return state["status"] == "done"
