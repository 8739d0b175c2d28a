"""Every command in the documents runs as written, but for what it needs beyond a test, which is marked there."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, PLACEHOLDERS, ROOT, commands, write_world
from xkd import demo
from xkd.cli import parser
from xkd.train.distributed import free_port

COMMANDS = [command for document in DOCUMENTS for command in commands(document)]
DEMO = [command for command in COMMANDS if "demo/" in str(command)]  # what `make demo` runs
RUN = [command for command in COMMANDS if command.needs is None and command not in DEMO]
REAL_DATA = re.compile(r"xkd (?:eval|launch|features) eval/\w+/(?!avdigits)")
FIRST = ("data.md", "README.md")  # the shards, then the runs, that other documents speak of


def test_the_readme_names_the_commands_of_the_demo():
    assert [list(command.words) for command in DEMO] == demo.commands(Path("demo"), 2000, 600, [])


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.words[0] == "xkd"], ids=str)
def test_the_command_line_takes_what_the_command_gives(command):
    options, rest = parser().parse_known_args(command.filled(PLACEHOLDERS)[1:])
    assert options.command.passes_rest or not [word for word in rest if word.startswith("-")]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_command_runs_as_written(tmp_path):
    write_world(tmp_path)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    seen, failures = set(), []

    def run(words: list[str]) -> str | None:
        """What it wrote, if it failed; the same words are run once."""
        if tuple(words) in seen:
            return None
        seen.add(tuple(words))
        began = time.monotonic()
        result = subprocess.run(_through_this_python(words), cwd=tmp_path, env=environment, capture_output=True, text=True)
        sys.stdout.write(f"{time.monotonic() - began:5.1f} s  {result.returncode}  {' '.join(words)}\n")
        return (result.stdout + result.stderr)[-2000:] if result.returncode else None

    order = sorted(RUN, key=lambda command: FIRST.index(command.document) if command.document in FIRST else len(FIRST))
    for number, command in enumerate(order):
        if command.document == "README.md" and not (tmp_path / "runs/xkd").exists():
            assert run(["xkd", "train", "tiny.yaml", "train.max_steps=2"]) is None
        if "runs/another/eval" in command.words:
            shutil.copytree(tmp_path / "runs/xkd", tmp_path / "runs/another", dirs_exist_ok=True)
        # The runs of this test have done two steps; one more in the same folder, with other settings, would be refused.
        words = [*command.filled(PLACEHOLDERS | {"12345": "2"}), *_for_small_data(command), *_shortened(command, number)]
        wrong = run(words)
        if wrong is not None and not ("xkd report runs/my" in str(command) and "- NO: " in wrong):  # two steps teach a net nothing
            failures.append(f"{command}\n{wrong}")
    assert not failures, "\n\n".join(failures)


def _for_small_data(command) -> list[str]:
    """The replicas have two classes of each data set."""
    return ["dataset.classes=2"] if REAL_DATA.search(" ".join(command.words)) else []


def _shortened(command, number: int) -> list[str]:
    """What makes a command that trains a short one, in a folder of its own unless the README starts it."""
    text = " ".join(command.words)
    if "eval/finetune" in text or "eval/linear" in text:
        return ["train.max_steps=1", "train.global_batch=4"]
    trains = "xkd.train" in text or text.startswith(("xkd train", "xkd launch"))
    if not trains or "--doctor" in text:
        return []
    return ["train.max_steps=2", "train.log_every=1", *([] if command.document == "README.md" else [f"run_dir=runs/of-{number}"])]


def _through_this_python(words: list[str]) -> list[str]:
    """The same command by this interpreter, whatever is on the path; launchers meet on a free port."""
    ports = {
        "deepspeed": ("deepspeed.launcher.runner", "--master_port"),
        "torchrun": ("torch.distributed.run", "--master-port"),
    }
    program, *rest = words
    if program in ports:
        module, option = ports[program]
        return [sys.executable, "-m", module, option, str(free_port()), *rest]
    return {"xkd": [sys.executable, "-m", "xkd", *rest], "python": [sys.executable, *rest]}.get(program, words)
