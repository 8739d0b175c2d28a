"""Versions of this node, and of all of them."""

from importlib import metadata

from xkd.doctor.versions import compare, unmet

EXTRAS = {"with": "pytest", "without": "surely-not-installed"}


def test_what_is_missing_too_old_or_too_new_is_named():
    torch = metadata.version("torch")
    wanted = ["torch", f"torch=={torch}", "torch<1", "surely-not-there>=2", "numpy>=1"]
    assert unmet(wanted) == [f"torch is {torch}, not <1", "surely-not-there is not installed"]


def test_of_the_extras_that_counts_whose_package_is_installed():
    wanted = ["surely-not-there; extra == 'with'", "nor-this; extra == 'without'"]
    assert unmet(wanted, EXTRAS) == ["surely-not-there is not installed"]
    assert unmet(wanted, dict(reversed(EXTRAS.items()))) == ["surely-not-there is not installed"]
    assert unmet(wanted, {"without": "surely-not-installed"}) == ["nor-this is not installed"]


def test_nodes_that_differ_are_named_with_what_they_have():
    same = {"torch": "2.11.0", "commit": "abc"}
    assert compare([("a", same), ("b", same)]).status == "ok"
    verdict = compare([("a", same), ("b", same), ("c", same | {"torch": "2.10.0"})])
    assert (verdict.status, verdict.found) == ("failed", "c has torch 2.10.0, a has 2.11.0")
