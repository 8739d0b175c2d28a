"""The deepspeed command that starts a run from where `xkd launch` stands: one machine, a hostfile's, or a node of a SLURM job."""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xkd.launch import hostfile
from xkd.launch.slurm import Step, find_step

RUNNER = (sys.executable, "-m", "deepspeed.launcher.runner")
# What every rank runs, by the `job` of the configuration.
MODULES = {"pretrain": "xkd.train", "linear": "xkd.eval", "finetune": "xkd.eval"}
DOCTOR = "xkd.doctor"


@dataclass(frozen=True)
class Machine:
    """What this process sees of its machine: environment, GPUs, CPUs it may use, a free port, and its user's and its own folder."""

    environ: Mapping[str, str]
    gpus: int
    cpus: int
    free_port: int
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Order:
    """What to start: a module on every rank, for a configuration file with its overrides. What is None is found out."""

    module: str
    arguments: Sequence[str]
    run_dir: Path
    hostfile: Path | None = None
    ranks: int | None = None  # on each machine
    master_addr: str | None = None
    master_port: int | None = None


@dataclass(frozen=True)
class Launch:
    """A command, with the variables that it gets beside those of this process, and the files that it reads."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def __str__(self) -> str:
        """Lines for a shell; files are shown as comments."""
        comments = [f"# {path}: {line}" for path, text in self.files.items() for line in text.splitlines()]
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.variables.items()]
        return "\n".join([*comments, " ".join([*variables, shlex.join(self.command)])])


def plan(order: Order, machine: Machine) -> Launch:
    """The command for where this is. Raises ValueError for what cannot be started from here."""
    if order.hostfile:
        return _on_hosts(order, machine)
    step = find_step(machine.environ)
    return _on_node(order, machine, step) if step else _here(order, machine)


def _here(order: Order, machine: Machine) -> Launch:
    """All ranks on this machine."""
    ranks = _ranks(order, machine)
    visible = machine.environ.get("CUDA_VISIBLE_DEVICES") if machine.gpus else None
    which = ("--include", f"localhost:{_first(visible, ranks)}") if visible else ("--num_accelerators", str(ranks))
    port = order.master_port or machine.free_port
    return Launch((*RUNNER, *which, "--master_port", str(port), *_rest(order)), _threads(machine, ranks))


def _on_hosts(order: Order, machine: Machine) -> Launch:
    """Ranks on the machines of a hostfile, which pdsh starts through ssh."""
    slots = hostfile.read(order.hostfile)
    if not shutil.which("pdsh", path=machine.environ.get("PATH")):
        raise ValueError(
            "--hostfile: needs `pdsh`, through which DeepSpeed starts the hosts, and which is not on the path: install it, "
            "with ssh to the hosts, or start one `xkd launch` a node with srun"
        )
    left = hostfile.left_behind(machine.environ, hostfile.carried_by_file(machine.folders), machine.gpus)
    warnings = [
        f"{', '.join(left)}: set here, but not on the other hosts: write NAME=value lines into {hostfile.ENV_FILE} in this folder"
    ] * bool(left)
    options = ["--hostfile", str(order.hostfile), "--force_multi"]  # else a single host would be this machine, whatever its name
    if order.ranks:
        too_few = [host for host, count in slots.items() if count < order.ranks]
        if too_few:
            raise ValueError(
                f"--ranks: {order.ranks} is more than the slots of {', '.join(too_few)} in {order.hostfile}: choose fewer"
            )
        options += ["--num_accelerators", str(order.ranks)]
    for name, value in {"--master_addr": order.master_addr, "--master_port": order.master_port}.items():
        options += [name, str(value)] * bool(value)
    rest = _rest(order, tuple(map(hostfile.for_remote_shell, order.arguments)))
    return Launch((*RUNNER, *options, *rest), warnings=warnings)


def _on_node(order: Order, machine: Machine, step: Step) -> Launch:
    """The ranks of this node of a SLURM job step; the other nodes start theirs."""
    ranks = _ranks(order, machine)
    visible = machine.environ.get("CUDA_VISIBLE_DEVICES") if machine.gpus else None
    if visible and visible.split(",")[:ranks] != [str(number) for number in range(ranks)]:
        raise ValueError(
            f"CUDA_VISIBLE_DEVICES: is {visible} here, and DeepSpeed's launcher would take the first {ranks} GPUs of the node: "
            "take whole nodes (#SBATCH --exclusive)"
        )
    # Ranks meet at `master_addr`; the names in the file are never resolved, since each node starts its own.
    listed = order.run_dir / "hostfile"
    files = {listed: "".join(f"node-{number} slots={ranks}\n" for number in range(step.nodes))}
    meeting = ("--master_addr", order.master_addr or step.first_host, "--master_port", str(order.master_port or step.port))
    options = ("--hostfile", str(listed), "--no_ssh", "--node_rank", str(step.node), *meeting)
    return Launch((*RUNNER, *options, *_rest(order)), _threads(machine, ranks), files)


def _ranks(order: Order, machine: Machine) -> int:
    """Ranks to start on this machine: one for each GPU, or a single one without GPUs, unless so many are asked for."""
    if order.ranks and machine.gpus and order.ranks > machine.gpus:
        raise ValueError(f"--ranks: {order.ranks} is more than this machine's {machine.gpus} GPUs: choose fewer")
    return order.ranks or machine.gpus or 1


def _first(visible: str, ranks: int) -> str:
    """The first numbers of CUDA_VISIBLE_DEVICES, which DeepSpeed's launcher sets anew from the numbers that it is given."""
    numbers = visible.split(",")[:ranks]
    if not all(number.isdecimal() for number in numbers):
        raise ValueError(f"CUDA_VISIBLE_DEVICES: DeepSpeed's launcher cannot pass on {visible}: name the GPUs by their numbers")
    return ",".join(numbers)


def _threads(machine: Machine, ranks: int) -> dict[str, str]:
    """Shares the CPUs out among the ranks, unless the user has: each would start as many threads as there are CPUs."""
    return {} if "OMP_NUM_THREADS" in machine.environ else {"OMP_NUM_THREADS": str(max(1, machine.cpus // ranks))}


def _rest(order: Order, arguments: Sequence[str] | None = None) -> tuple[str, ...]:
    return ("--no_local_rank", "--log_level", "warning", "--module", order.module, *(arguments or order.arguments))
