"""Commits as sources of measurements: the results that they hold, and their code run in turns."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from xkd.benchmarks.results import Row, read_csv

RESULTS = "benchmarks/results"


def results(source: str) -> list[Row]:
    """The rows of a CSV file, of all those in a folder, or of those that a commit of the checkout one stands in holds.

    Raises ValueError where it is none of them.
    """
    path = Path(source)
    if path.is_file():
        return read_csv(path)
    if path.is_dir():
        files = sorted(path.glob("*.csv"))
        if not files:
            raise ValueError(f"{source}: holds no csv file, such as loader.csv: run `xkd bench loader --csv {source}/loader.csv`")
        return [row for file in files for row in read_csv(file)]
    commit = resolve(source)
    names = _git("ls-tree", "--name-only", f"{commit}:{RESULTS}").splitlines()
    with TemporaryDirectory() as folder:
        for name in (name for name in names if name.endswith(".csv")):
            Path(folder, name).write_text(_git("show", f"{commit}:{RESULTS}/{name}"))
        return results(folder)


def resolve(revision: str) -> str:
    """The full name of a commit. Raises ValueError for what is none."""
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").strip()
    except ValueError:
        raise ValueError(
            f"{revision}: is neither a csv file, nor a folder of them, nor a commit of the checkout in {Path.cwd()}: "
            "give a path that exists, or a revision that `git log` shows"
        ) from None


@contextmanager
def checkout(source: str) -> Iterator[Path]:
    """A folder with the code: that of a commit, for as long as this is entered, or a folder with code as it stands."""
    if (Path(source) / "xkd" / "cli.py").is_file():
        yield Path(source).resolve()
        return
    commit = resolve(source)
    with TemporaryDirectory() as folder:
        tree = Path(folder) / commit[:12]
        _git("worktree", "add", "--detach", "--quiet", str(tree), commit)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def run(tree: Path, benchmark: str, csv: Path) -> None:
    """Runs `xkd bench` with the code of a folder; `benchmark` is its name and options. Raises RuntimeError where it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XKD_COMMIT", "PYTHONSAFEPATH")}
    words = [sys.executable, "-m", "xkd", "bench", *shlex.split(benchmark), "--csv", str(csv)]
    done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(words)} in {tree} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def in_turns(sides: Sequence, pairs: int) -> Iterator:
    """The two sides so many times, as A B B A A B and so on: a machine that slows down or speeds up favours neither."""
    for number in range(pairs):
        yield from sides if number % 2 == 0 else reversed(sides)


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"git {shlex.join(words)}: {done.stderr.strip() or 'failed'}")
    return done.stdout
