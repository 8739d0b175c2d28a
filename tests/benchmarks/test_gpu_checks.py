from xkd.benchmarks.gpu_checks import CHECKS, NEEDS


def test_check_names_are_unique_and_their_needs_known():
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert {need for check in CHECKS for need in check.needs} <= set(NEEDS)
