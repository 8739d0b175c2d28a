"""Ctrl-C, in a process of its own."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).parents[2]
PROGRAM = """
try:
{code}
except KeyboardInterrupt:
    import threading
    print([thread.name for thread in threading.enumerate()], flush=True)
"""


def threads_after_ctrl_c(code: str) -> list[str]:
    """The names of the threads that are there when `code`, which goes on for ever and prints "going" once, was interrupted."""
    program = PROGRAM.format(code=indent(code, "    "))
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "going\n"
    os.kill(child.pid, signal.SIGINT)
    threads = child.stdout.readline()
    assert child.wait(timeout=60) == 0
    return ast.literal_eval(threads)
