import pytest
import torch

from xkd.benchmarks.findings import Context
from xkd.benchmarks.gpu_kernels import FIRST_TESTS, PROVIDERS, TESTS, _tested, compare_masks, speed
from xkd.benchmarks.kernel_cases import CASES
from xkd.kernels import random_mask as module


def test_masks_of_two_halves_are_those_of_the_whole():
    findings = compare_masks("cpu")
    assert findings.wrong == []
    assert findings.facts[0]["value"] >= 6


def test_masks_that_differ_in_one_bit_are_found(monkeypatch):
    kept = module.random_mask

    def shifted(*arguments, device="meta", **options):
        mask = kept(*arguments, **options)
        return mask if device == "meta" else mask._replace(mask=mask.mask ^ (torch.arange(mask.mask.shape[1]) == 0))

    monkeypatch.setattr(module, "random_mask", shifted)
    findings = compare_masks("cpu")
    assert len(findings.wrong) == findings.facts[0]["value"]
    assert "random_mask video, seed 0, step 0: differs from the CPU's" in findings.wrong


def test_the_kernels_tests_are_where_the_check_looks():
    assert all((TESTS / "fused" / f"test_{name}.py").is_file() for name in FIRST_TESTS)


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="without a GPU they fail for sure")
def test_tests_of_kernels_that_fail_are_wrong_by_name():
    findings = _tested([TESTS / "fused" / "test_devices.py"])
    assert findings.facts[0]["tests of"] == "devices"
    assert findings.wrong
    assert all(line.startswith(("FAILED", "ERROR")) for line in findings.wrong)


def test_the_speed_of_the_first_kernel_is_measured_on_a_cpu_too():
    context = Context(None, recorder=None, end=0, device="cpu")
    (findings,) = speed(context)
    assert findings.wrong == []
    assert findings.facts[0]["provider"] == PROVIDERS[0]
    assert context.left_out[0].startswith(f"{len(PROVIDERS) * sum(case.benchmarked for case in CASES) - 1} of ")
