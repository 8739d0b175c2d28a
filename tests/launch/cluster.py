"""A cluster on one machine: scripts that stand for srun, scontrol, pdsh and ssh, and nodes that are network namespaces."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
JOB = {"SLURM_JOB_ID": "1234567", "OMP_NUM_THREADS": "1"}

XKD = f'exec {sys.executable} -m xkd "$@"'
RECORD = 'echo "$(basename "$0") $*" >> "$(dirname "$0")/recorded"'
SKIP_OPTIONS = "while [[ $1 == -* ]]; do shift; done"
# One task on this machine, as srun starts it.
SRUN = f"""{RECORD}
{SKIP_OPTIONS}
export SLURM_STEP_ID=0 SLURM_STEP_NUM_NODES=1 SLURM_STEP_NUM_TASKS=1 SLURM_STEP_NODELIST=localhost SLURM_NODEID=0
exec "$@"
"""
# Runs the command of each host here: pdsh -S -f FANOUT -w HOST,HOST COMMAND, in which %n is the host's number.
PDSH = f"""{RECORD}
IFS=, read -ra hosts <<< "$5"
shift 5
command="$*" code=0 pids=()
for number in "${{!hosts[@]}}"; do bash -c "${{command//%n/$number}}" & pids+=($!); done
for pid in "${{pids[@]}}"; do wait "$pid" || code=$?; done
exit "$code"
"""
SSH = 'if [[ "$*" == *"hostname -I" ]]; then echo 127.0.0.1; fi'


def write_programs(folder: Path, **programs: str) -> Path:
    """Makes a folder for PATH with a bash script of each name, and `xkd`."""
    folder.mkdir(exist_ok=True)
    for name, text in {"xkd": XKD, **programs}.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


def recorded(folder: Path) -> list[str]:
    """The calls, of those programs that record theirs."""
    file = folder / "recorded"
    return file.read_text().splitlines() if file.exists() else []


def start(command, folder: Path, **variables: str) -> subprocess.Popen:
    """Starts a command that finds the programs of `folder` first, in a session of its own."""
    environment = os.environ | JOB | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)} | variables
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, seconds: float = 400) -> str:
    """Waits for a started command, and returns what it wrote. One that takes longer is ended with all it has started."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def wait_until(holds, process: subprocess.Popen, seconds: float = 400) -> None:
    """Waits for a condition while a command runs."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def losses(run_dir: Path) -> dict[int, float]:
    """The loss of every step that the run has logged so far."""
    file = run_dir / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may not be written out yet
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def state(run_dir: Path) -> dict:
    return json.loads((run_dir / "state.json").read_text())


class Nodes:
    """Two nodes: network namespaces joined by one cable, each with its own folder at `scratch`; needs root and iproute2.

    Everything else of the file system they share. `cut` takes the cable out, `mend` puts it back, `lose` kills all of a node.
    """

    def __init__(self, folder: Path):
        self.scratch = folder / "scratch"
        self.names = [f"xkd-{os.getpid()}-{number}" for number in range(2)]
        self._folder = folder

    def __enter__(self):
        self.scratch.mkdir()
        for name in self.names:
            (self._folder / name).mkdir()
            _ip("netns", "add", name)
        _ip("link", "add", "cable", "netns", self.names[0], "type", "veth", "peer", "name", "cable", "netns", self.names[1])
        for number, name in enumerate(self.names, 1):
            _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *_):
        for name in self.names:
            self.lose(name)
            _ip("netns", "del", name)

    def programs(self) -> Path:
        """A srun that starts its command on both nodes at once, with all they write in a file each."""
        variables = "SLURM_STEP_ID=0 SLURM_STEP_NUM_NODES=2 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST='10.77.0.[1-2]'"
        own = f'mount --bind {self._folder}/$name {self.scratch} && exec "$@"'
        srun = f"""{SKIP_OPTIONS}
number=0 pids=() code=0
for name in {" ".join(self.names)}; do
    export name SLURM_NODEID=$number {variables} GLOO_SOCKET_IFNAME=cable
    ip netns exec "$name" bash -c '{own}' bash "$@" > {self._folder}/$name.log 2>&1 & pids+=($!)
    number=$((number + 1))
done
for pid in "${{pids[@]}}"; do wait "$pid" || code=$?; done
exit "$code"
"""
        return write_programs(self._folder / "bin", srun=srun)

    def told(self) -> list[str]:
        return [(self._folder / f"{name}.log").read_text() for name in self.names]

    def cut(self) -> None:
        _ip("-n", self.names[1], "link", "set", "cable", "down")

    def mend(self) -> None:
        _ip("-n", self.names[1], "link", "set", "cable", "up")

    def lose(self, name: str) -> None:
        for pid in _ip("netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _ip(*arguments: str) -> str:
    return subprocess.run(("ip", *arguments), capture_output=True, text=True, check=True).stdout
