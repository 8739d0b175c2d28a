"""Imports point one way, heavy libraries stay behind their doors, and the command line is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SIBLINGS = ("kernels", "pipelines", "benchmarks", "configs")

FOUNDATION = {"xkd", "xkd.config", "xkd.config_errors", "xkd.env", "xkd.permissions", "xkd.schedules"}
NETWORK = FOUNDATION | {"xkd.model", "xkd.losses", "xkd.kernels"}
FEATURES = {"xkd.features", "xkd.neighbours"}
PICTURES = {"xkd.visualize"}
RUNNING = NETWORK | FEATURES | PICTURES | {"xkd.train", "xkd.pipelines"}
COMMANDS = RUNNING | {"xkd.release", "xkd.eval", "xkd.visualize.run", "xkd.cli", "xkd.jobs", "xkd.report", "xkd.demo"}
COMMANDS |= {"xkd.commands", "xkd.doctor", "xkd.launch", "xkd.plan", "xkd.study", "xkd.encoder", "xkd.export"}

# What each part may import of this project. A module belongs to the longest name here that it starts with.
MAY_IMPORT = {
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    "xkd.configs": set(),
    "xkd.kernels": {"xkd.kernels"},
    "xkd.pipelines": {"xkd.pipelines"},
    "xkd.model": NETWORK,
    "xkd.losses": NETWORK,
    "xkd.release": NETWORK | {"xkd.release"},
    "xkd": FOUNDATION | {"xkd.encoder"},
    "xkd.encoder": NETWORK | {"xkd.encoder", "xkd.release", "xkd.pipelines"},
    "xkd.export": RUNNING | {"xkd.export", "xkd.encoder", "xkd.eval", "xkd.release"},
    "xkd.features": {"xkd.pipelines"},
    "xkd.neighbours": set(),
    "xkd.train": RUNNING,
    "xkd.launch": RUNNING | {"xkd.launch", "xkd.jobs"},
    "xkd.doctor": RUNNING | {"xkd.doctor"},
    "xkd.doctor.__main__": COMMANDS,
    "xkd.eval": RUNNING | {"xkd.eval", "xkd.encoder", "xkd.release"},
    "xkd.visualize": NETWORK | FEATURES | PICTURES | {"xkd.pipelines"},
    "xkd.visualize.run": RUNNING | {"xkd.eval", "xkd.visualize.run"},
    "xkd.report": RUNNING | {"xkd.eval"},
    "xkd.study": RUNNING | {"xkd.eval", "xkd.study"},
    "xkd.plan": RUNNING | {"xkd.plan", "xkd.jobs", "xkd.benchmarks"},
    "xkd.cli": COMMANDS,
    "xkd.commands": COMMANDS,
    "xkd.jobs": COMMANDS,
    "xkd.demo": COMMANDS,
    "xkd.__main__": COMMANDS,
    "xkd.train.__main__": COMMANDS,
    "xkd.eval.__main__": COMMANDS,
    "xkd.benchmarks": COMMANDS | {"xkd.benchmarks"},
}
# Which parts may import a heavy library.
DOORS = {
    "nvidia.dali": {"xkd.pipelines", "xkd.benchmarks"},
    "deepspeed": {"xkd.train.engine", "xkd.benchmarks"},
    "triton": {"xkd.kernels", "xkd.benchmarks"},
}


def sources():
    """Module name -> file, of everything that is installed."""
    files = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in (ROOT / "xkd").rglob("*.py")}
    for sibling in SIBLINGS:
        files |= {f"xkd.{'.'.join(file.relative_to(ROOT).with_suffix('').parts)}": file for file in (ROOT / sibling).rglob("*.py")}
    return {name.removesuffix(".__init__"): file for name, file in files.items()}


MODULES = sources()


def imported(module, is_package, text):
    """Every name that a module imports, inside functions too; `from xkd import schedules` gives xkd.schedules."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".") if is_package else module.split(".")[:-1]
            above = parents[: len(parents) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield name if name in MODULES or name in DOORS else source


def part_of(name, parts):
    """The longest of `parts` that `name` is or lies in; the part xkd is only xkd/__init__.py."""
    found = [part for part in parts if name == part or (name.startswith(f"{part}.") and part != "xkd")]
    return max(found, key=len, default=None)


def violations(module, text, is_package=False):
    part = part_of(module, MAY_IMPORT)
    if part is None:
        return [f"{module} has no place in MAY_IMPORT"]
    wrong = []
    for name in imported(module, is_package, text):
        top, door = name.split(".")[0], part_of(name, DOORS)
        if (
            (top == "xkd" and part_of(name, MAY_IMPORT) not in MAY_IMPORT[part])
            or (door and not part_of(module, DOORS[door]))
            or top in (*SIBLINGS, "tests")
        ):
            wrong.append(f"{module} imports {name}")
    return wrong


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_lies_below_it(module):
    file = MODULES[module]
    assert violations(module, file.read_text(), file.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("xkd.kernels.mmd", "from xkd import config"),
        ("xkd.kernels.mmd", "import xkd.pipelines.samples.order"),
        ("xkd.pipelines.samples.order", "def f():\n    from xkd.kernels.mmd import mmd"),
        ("xkd.model.vit", "from xkd.train import ema"),
        ("xkd.model.vit", "from ..train import ema"),
        ("xkd.model.vit", "from xkd.release.keys import fill"),
        ("xkd.losses", "import xkd.pipelines.shards.index"),
        ("xkd.train.trainer", "import xkd.cli"),
        ("xkd.train.trainer", "from xkd.eval.svm import evaluate_svm"),
        ("xkd.train.trainer", "from xkd.visualize.run import visualize"),
        ("xkd.visualize.curves", "from xkd.eval.scores import Estimate"),
        ("xkd.cli", "from xkd.benchmarks import loader"),
        ("xkd.commands.bench", "from xkd.benchmarks import loader"),
        ("xkd.config", "from xkd.train.config import PretrainConfig"),
        ("xkd.train.trainer", "import deepspeed.comm as dist"),
        ("xkd.model.vit", "from nvidia import dali"),
        ("xkd.train.engine", "import nvidia.dali.fn"),
        ("xkd.pipelines.loader", "import triton"),
        ("xkd.model.vit", "from kernels import mmd"),
        ("xkd.benchmarks.step", "from tests import conftest"),
        ("xkd.helpers", ""),
    ],
)
def test_the_check_sees_an_import_that_points_up(module, text):
    assert len(violations(module, text)) == 1


def heavy_modules_after(statements):
    script = (
        f"{statements}\nimport sys\nprint([name for name in ('torch', 'nvidia.dali', 'deepspeed', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout.splitlines()[-1])


def test_importing_the_command_line_imports_no_heavy_library():
    assert heavy_modules_after("import xkd.cli\nxkd.cli.parser()") == []


def test_showing_a_configuration_imports_neither_dali_nor_deepspeed():
    shown = heavy_modules_after("from xkd.cli import main\nassert main(['config', 'show', 'configs/pretrain/demo.yaml']) == 0")
    assert set(shown) <= {"torch"}
