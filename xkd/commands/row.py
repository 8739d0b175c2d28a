"""What a row of the table of commands is, and the arguments that several have."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

DONE, FAILED, WRONG_USAGE = 0, 1, 2


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


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def above_zero(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


WORKERS = argument("--workers", type=positive, metavar="N", help="processes (default: one per usable core)")
# The deepspeed launcher passes it; the environment variable LOCAL_RANK, which is read, says the same.
LOCAL_RANK = argument("--local_rank", type=int, help=argparse.SUPPRESS)
OVERRIDES = argument("overrides", metavar="section.key=value", nargs="*", help="gives a field another value")
CONFIG = (argument("config", metavar="CONFIG", help="yaml file, or its path below configs/"), OVERRIDES)
