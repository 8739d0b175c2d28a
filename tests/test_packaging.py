"""What gets installed: one top-level package, the same from a checkout, an editable install and a wheel."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SOURCES = ("xkd", "kernels", "pipelines", "benchmarks", "configs")

# Prints what `import xkd` gives in the place where it runs.
PROBE = """
import importlib, importlib.util, json, sys
import xkd, xkd.kernels.mmd, xkd.pipelines.samples.order, xkd.model.config
import xkd.benchmarks, xkd.configs
import xkd.kernels as kernels_again
from xkd.kernels import mmd as mmd_again
siblings = {name: importlib.import_module(f"xkd.{name}") for name in ("kernels", "pipelines", "benchmarks", "configs")}
files = [module.__file__ for name, module in sys.modules.items() if name.startswith("xkd.")]
print(json.dumps({
    "xkd": xkd.__file__,
    "siblings": {name: module.__file__ for name, module in siblings.items()},
    "one_object": all(getattr(xkd, name) is module is sys.modules[f"xkd.{name}"] for name, module in siblings.items())
        and kernels_again is xkd.kernels and importlib.import_module("xkd.kernels.mmd") is mmd_again,
    "each_file_once": len(files) == len(set(files)),
    "strays": [name for name in ("xkd.xkd", "xkd.tests", "xkd.setup", "xkd.docs") if importlib.util.find_spec(name)],
    "bare": [name for name in ("kernels", "pipelines", "benchmarks", "configs", "tests") if importlib.util.find_spec(name)],
}))
"""


def run(*command, cwd):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory):
    """A copy of what is installed, so that building leaves nothing in the checkout and takes nothing stale from it."""
    tree = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree)
    for name in (*SOURCES, "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return tree


@pytest.fixture(scope="session")
def wheel(source_tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source_tree, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return importlib.metadata.PathDistribution(zipfile.Path(archive, name.removesuffix("METADATA"))).metadata


def make_venv(folder, project):
    """A virtual environment that holds only `project`, installed without its needs; those are found where this test runs."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "needs.pth").write_text(sysconfig.get_path("purelib"))
    pip = (python, "-m", "pip", "install", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "--force-reinstall", *project, cwd=folder)
    return python


@pytest.fixture(scope="session")
def wheel_python(wheel, tmp_path_factory):
    return make_venv(tmp_path_factory.mktemp("venv") / "of-wheel", [wheel])


@pytest.fixture(scope="session")
def editable_python(source_tree, tmp_path_factory):
    return make_venv(tmp_path_factory.mktemp("venv") / "editable", ["--editable", source_tree])


def probe(python, cwd):
    return json.loads(run(python, "-c", PROBE, cwd=cwd))


def siblings_of(found):
    return {name: Path(file).parent for name, file in found["siblings"].items()}


def test_the_wheel_has_one_top_level_package_with_every_module_and_yaml_inside(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {file.relative_to(ROOT) for name in SOURCES for file in (ROOT / name).rglob("*") if file.suffix in (".py", ".yaml")}
    assert any(path.suffix == ".yaml" for path in sources)
    expected = {str(path if path.parts[0] == "xkd" else "xkd" / path) for path in sources}
    assert {name for name in inside if name.endswith((".py", ".yaml"))} == expected
    assert {f"xkd/configs/launch/{name}" for name in ("slurm.sbatch", "hostfile", "apptainer.def")} <= inside
    assert {name.split("/")[0] for name in inside} == {"xkd"}


def test_the_wheel_carries_name_version_licence_and_command(wheel, metadata):
    import xkd

    assert (metadata["Name"], metadata["Version"]) == ("xkd-train", xkd.__version__)
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert texts["LICENSE"] == (ROOT / "LICENSE").read_text()
    assert "xkd = xkd.cli:main" in texts["entry_points.txt"]


@pytest.mark.parametrize(("extra", "dali", "other"), [("cuda13", "cuda130", "cuda120"), ("cuda12", "cuda120", "cuda130")])
def test_each_cuda_extra_brings_its_own_dali_and_the_torch_family_that_fits(metadata, extra, dali, other):
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    always = {need.name: need for need in requirements if need.marker is None}
    brought = {need.name: need for need in requirements if need.marker and need.marker.evaluate({"extra": extra})}
    assert f"nvidia-dali-{dali}" in brought
    assert f"nvidia-dali-{other}" not in brought | always
    assert "2.11.0" in always["torch"].specifier
    assert "2.12.0" not in always["torch"].specifier
    assert [
        name for name, version in {"torchaudio": "2.11.0", "torchvision": "0.26.0"}.items() if version in brought[name].specifier
    ]
    assert str(always["deepspeed"].specifier) == "==0.19.8"


def test_the_sibling_folders_are_found_from_a_checkout():
    found = probe(sys.executable, ROOT)
    assert Path(found["xkd"]).parent == ROOT / "xkd"
    assert siblings_of(found) == {name: ROOT / name for name in SOURCES[1:]}
    assert found["one_object"]
    assert found["each_file_once"]
    assert found["strays"] == []


@pytest.mark.long
def test_the_sibling_folders_are_found_from_an_editable_install(editable_python, source_tree, tmp_path):
    found = probe(editable_python, tmp_path)
    assert Path(found["xkd"]).parent == source_tree / "xkd"
    assert {name: Path(file).parent for name, file in found["siblings"].items()} == {
        name: source_tree / name for name in SOURCES[1:]
    }
    assert found["one_object"]
    assert found["each_file_once"]
    assert found["strays"] == found["bare"] == []


@pytest.mark.long
def test_the_sibling_folders_lie_inside_the_package_of_a_wheel(wheel_python, tmp_path):
    found = probe(wheel_python, tmp_path)
    package = Path(found["xkd"]).parent
    assert package.is_relative_to(wheel_python.parent.parent)
    assert siblings_of(found) == {name: package / name for name in SOURCES[1:]}
    assert found["one_object"]
    assert found["each_file_once"]
    assert found["strays"] == found["bare"] == []


@pytest.mark.long
def test_the_installed_command_finds_packaged_configurations_and_refuses_wrong_ones(wheel_python, tmp_path):
    command = wheel_python.with_name("xkd")
    assert "job: pretrain" in run(command, "config", "show", "pretrain/demo.yaml", cwd=tmp_path)
    assert "torch: 2.11" in run(command, "env", cwd=tmp_path)
    wrong = subprocess.run(
        [command, "train", "pretrain/demo.yaml", "model.sharing=students"], cwd=tmp_path, capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert wrong.stderr == "command line: model.sharing: 'students' is not one of none, student, both; did you mean student?\n"
    assert list(tmp_path.iterdir()) == []
