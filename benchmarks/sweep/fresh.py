"""Calls a function in a process of its own, whose failure is an answer: a reason instead of a result."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil

POLL_SECONDS = 0.2
ENDING_SECONDS = 10  # that a process may take to end once it has answered
OUT_OF_MEMORY = "out of memory"
# What torch's allocators say of it, in errors of the class that they raise for everything.
SAYS_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "Cannot allocate memory")
LINE = 160  # characters of a reason


@dataclass(frozen=True)
class Outcome:
    """What a function returned, or why it returned nothing."""

    value: Any = None
    reason: str | None = None


def call(
    function: Callable,
    *arguments,
    seconds: float,
    environment: Mapping[str, str | None] | None = None,
    memory_bytes: int | None = None,
    stop: Callable[[], str | None] = lambda: None,
) -> Outcome:
    """Calls a picklable function in a fresh process; its return value must be picklable too.

    The process ends, with all that it has started, after `seconds`, when they hold more than `memory_bytes`, or as soon as `stop`
    gives a reason. A variable whose value is None is taken out of its environment.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments, dict(environment or {})))
    process.start()
    sender.close()
    end = time.monotonic() + seconds
    try:
        while not receiver.poll(POLL_SECONDS):
            if time.monotonic() > end:
                return Outcome(reason=f"took more than {seconds:g} s")
            if memory_bytes and _resident(process.pid) > memory_bytes:
                return Outcome(reason=f"{OUT_OF_MEMORY}: more than the {memory_bytes / 2**30:.1f} GiB that were free")
            if reason := stop():
                return Outcome(reason=reason)
        outcome = receiver.recv()
        process.join(ENDING_SECONDS)
        return outcome
    except EOFError:
        process.join()
        return Outcome(reason=_ended(process.exitcode))
    finally:
        _kill(process.pid)
        process.join()


def _answer(sender: Connection, function: Callable, arguments: tuple, environment: dict) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        outcome = Outcome(function(*arguments))
    except Exception as error:  # noqa: BLE001 whatever it is, it is why there is no number
        outcome = Outcome(reason=reason_of(error))
    sender.send(outcome)


def reason_of(error: Exception) -> str:
    """One line."""
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in said for words in SAYS_OUT_OF_MEMORY):
        return OUT_OF_MEMORY
    told = said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"
    return told if len(told) <= LINE else f"{told[:LINE]}..."


def _ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return f"{OUT_OF_MEMORY}, or killed otherwise: the process got SIGKILL"
    return f"the process ended with {f'signal {-code}' if code < 0 else f'exit code {code}'} and said nothing"


def _family(pid: int) -> list[psutil.Process]:
    """The process and its descendants, none where it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(pid: int) -> int:
    total = 0
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def _kill(pid: int) -> None:
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            process.kill()
