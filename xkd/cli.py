"""The command line: a table of commands; what a command needs is imported when it runs."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

DONE, FAILED, WRONG_USAGE, STOPPED = 0, 1, 2, 75
EXIT_CODES = (
    f"exit codes: {DONE} done, {FAILED} failed, {WRONG_USAGE} wrong usage or configuration, "
    f"{STOPPED} stopped on request after saving (start again to go on)"
)
BENCHMARKS = {  # module of xkd.benchmarks: what it measures
    "decode": "decoders on encoded clips",
    "loader": "clips per second from shards to tensors",
    "step": "time and memory of a training step",
}


@dataclass(frozen=True)
class Command:
    """One row of the table; `run` returns an exit code, or None for done."""

    name: str  # "shards write" is the command `write` of the group `shards`
    summary: str
    run: Callable[[argparse.Namespace], int | None]
    arguments: tuple = ()
    passes_rest: bool = False  # arguments that are not listed above, `--help` too, are for `run`, as args.rest


def argument(*names, **options):
    return names, options


def avdigits(args):
    from xkd.pipelines.avdigits.write import write_dataset

    write_dataset(args.out, train=args.train, test=args.test, seed=args.seed, workers=args.workers or len(os.sched_getaffinity(0)))


def shards_write(args):
    from xkd.pipelines.convert.write import write_shards

    summary = write_shards(
        args.source,
        args.out,
        dataset=args.dataset,
        split=args.split,
        profile=args.profile,
        workers=args.workers,
        limit=args.limit,
    )
    sys.stdout.write(f"{summary}\n")


def pretrain(args):
    from xkd.config import load
    from xkd.train.config import PretrainConfig

    config = load(args.config, args.overrides, {"pretrain": PretrainConfig})
    from xkd.train.trainer import train

    return train(config)


def evaluate(args):
    from xkd.config import load
    from xkd.eval.config import EvalConfig

    config = load(args.config, args.overrides, {"eval": EvalConfig})
    from xkd.eval.run import report, run

    sys.stdout.write(report(run(config)))


def report(args):
    from xkd.report import write_report

    holds = write_report(args.run, args.out, backbone=args.backbone, supervised_epochs=args.supervised_epochs, seed=args.seed)
    return DONE if holds else FAILED


def bench(name, args):
    return import_module(f"xkd.benchmarks.{name}").main(args.rest)


def demo(args):
    from xkd.demo import main

    return main(args.rest)


def config_show(args):
    from xkd.config import dump, load
    from xkd.jobs import schemas

    sys.stdout.write(dump(load(args.config, args.overrides, schemas())))


def env(args):
    from xkd.env import environment

    for name, value in environment().items():
        sys.stdout.write(f"{name}: {', '.join(value) if isinstance(value, list) else value}\n")


_WORKERS = argument("--workers", type=int, metavar="N", help="processes (default: one per usable core)")
# The deepspeed launcher passes it; the environment variable LOCAL_RANK, which is read, says the same.
_LOCAL_RANK = argument("--local_rank", type=int, help=argparse.SUPPRESS)
_CONFIG = (
    argument("config", metavar="CONFIG", help="yaml file, or its path below configs/"),
    argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the file"),
)

COMMANDS = (
    Command(
        "avdigits",
        "write the embedded data set: mp4 files in class folders",
        avdigits,
        (
            argument("out", metavar="OUT", type=Path, help="folder to write"),
            argument("--train", type=int, required=True, metavar="N", help="number of training clips"),
            argument("--test", type=int, required=True, metavar="N", help="number of test clips"),
            argument("--seed", type=int, default=0, help="(default 0)"),
            _WORKERS,
        ),
    ),
    Command(
        "shards write",
        "convert a data set to shards",
        shards_write,
        (
            argument("source", metavar="SOURCE", type=Path, help="where the data set lies"),
            argument("--dataset", required=True, metavar="NAME", help="its kind: folder"),
            argument("--split", required=True, help="such as train or test"),
            argument("--out", type=Path, required=True, metavar="DIR", help="shard folder to write"),
            argument("--profile", default="pretrain", help="what is stored (default pretrain)"),
            _WORKERS,
            argument("--limit", type=int, metavar="N", help="convert the first N samples only"),
        ),
    ),
    Command("train", "pre-train", pretrain, (*_CONFIG, _LOCAL_RANK)),
    Command("eval", "evaluate a checkpoint: checkpoint=RUN", evaluate, _CONFIG),
    Command(
        "report",
        "compare a run's net with references, check and draw it",
        report,
        (
            argument("run", metavar="RUN", type=Path, help="run directory"),
            argument("--out", type=Path, required=True, metavar="DIR", help="folder to write"),
            argument(
                "--backbone", choices=("student", "teacher"), default="student", help="encoders to evaluate (default student)"
            ),
            argument("--supervised-epochs", type=int, default=12, metavar="N", help="epochs of the supervised net (default 12)"),
            argument(
                "--seed", type=int, default=0, help="of the untrained and supervised nets and of cross-validation (default 0)"
            ),
        ),
    ),
    *(Command(f"bench {name}", f"measure {what}", partial(bench, name), passes_rest=True) for name, what in BENCHMARKS.items()),
    Command("demo", "run the main job on the embedded data set and write a report", demo, passes_rest=True),
    Command("config show", "print a configuration with every field", config_show, _CONFIG),
    Command("env", "print versions, hardware and commit", env),
)


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="xkd", description="Audio-visual self-supervised pre-training (XKD).", epilog=EXIT_CODES)
    root.add_argument("--traceback", action="store_true", help="on wrong usage or configuration, show where it was found")
    groups = {"": root.add_subparsers(metavar="COMMAND", required=True)}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        if group not in groups:
            groups[group] = _add_group(groups[""], group)
        own = groups[group].add_parser(
            name, help=command.summary, description=command.summary, allow_abbrev=False, add_help=not command.passes_rest
        )
        for names, options in command.arguments:
            own.add_argument(*names, **options)
        own.set_defaults(command=command)
    return root


def _add_group(commands, group: str):
    members = " | ".join(row.name.split()[1] for row in COMMANDS if row.name.startswith(f"{group} "))
    return commands.add_parser(group, help=members).add_subparsers(metavar=members, required=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; argparse itself exits with 2 on wrong usage."""
    root = parser()
    args, rest = root.parse_known_args(arguments)
    if rest and not args.command.passes_rest:
        root.error(f"unrecognized arguments: {' '.join(rest)} (see `xkd {args.command.name} --help`)")
    args.rest = rest
    try:
        return args.command.run(args) or DONE
    except (ValueError, FileNotFoundError) as error:
        if args.traceback:
            raise
        sys.stderr.write(f"{_sentence(error)}\n")
        return WRONG_USAGE
    except KeyboardInterrupt:
        sys.stderr.write(f"xkd {args.command.name}: interrupted\n")
        return FAILED


def _sentence(error: Exception) -> str:
    return f"{error.filename}: no such file or folder" if isinstance(error, FileNotFoundError) and error.filename else str(error)
