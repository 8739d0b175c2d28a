"""Are the packages those that this one asks for, and the same ones on all nodes?"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata

from packaging.requirements import Requirement

from xkd.doctor.context import Context
from xkd.doctor.verdict import Verdict, judged, ok
from xkd.env import environment

DISTRIBUTION = "xkd-train"
CUDA_EXTRAS = {"cuda13": "nvidia-dali-cuda130", "cuda12": "nvidia-dali-cuda120"}  # the package that an extra is known by
SHOWN = ("xkd", "python", "torch", "deepspeed", "dali", "av", "triton")
SAME = (*SHOWN, "commit")  # what all nodes must have the same of


def check(context: Context) -> Iterator[Verdict]:
    """Versions of this node; the first process names the nodes that differ from it, once they have told theirs."""
    here = environment()
    shown = ", ".join(f"{name} {here[name]}" for name in SHOWN)
    try:
        wrong = unmet(metadata.requires(DISTRIBUTION) or [])
    except metadata.PackageNotFoundError:
        way = "run `pip install -e .` in the checkout, or `make install`"
        yield Verdict("versions", "not checked", f"{shown}; {DISTRIBUTION} runs from a checkout and is not installed", way)
        return
    found = f"{shown}; {'; '.join(wrong)}" if wrong else shown
    yield judged("versions", bool(wrong), found, f'run pip install "{DISTRIBUTION}[cuda13]", or [cuda12] for older drivers')


def unmet(requirements: list[str], extras: Mapping[str, str] = CUDA_EXTRAS) -> list[str]:
    """The requirements that the installed packages do not meet; of the extras, that whose package is installed, or the first."""
    extra = next((name for name, package in extras.items() if installed(package)), next(iter(extras)))
    wrong = []
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        version = installed(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    return wrong


def installed(name: str) -> str | None:
    """The version of a package, None where it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def compare(of_nodes: Sequence[tuple[str, Mapping[str, object]]]) -> Verdict:
    """Whether all nodes have the same versions and commit: of each its host and environment."""
    (first, reference), *others = of_nodes
    differences = [
        f"{host} has {name} {found.get(name)}, {first} has {reference.get(name)}"
        for host, found in others
        for name in SAME
        if found.get(name) != reference.get(name)
    ]
    if not differences:
        return ok("same versions", f"{len(of_nodes)} nodes")
    fix = "install the same versions and check out the same commit on all nodes, best in one environment that they share"
    return Verdict("same versions", "failed", "; ".join(differences), fix)
