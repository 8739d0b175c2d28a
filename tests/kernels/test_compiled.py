"""Every kernel, compiled for chips that are not here: no spills, shared memory in bounds, wide accesses, matrix instructions."""

import inspect
import re

import pytest
from triton.runtime.jit import KernelInterface

from tests.kernels.planted import planted
from xkd.benchmarks.kernel_cases import CASES, NARROW, OPS
from xkd.benchmarks.kernel_code import CHIPS, LEAST_WIDE, compile_everywhere, wrong

pytestmark = pytest.mark.timeout(900)  # two minutes of compiling on two free cores, where nothing is cached


@pytest.fixture(scope="module")
def codes():
    return compile_everywhere()


@pytest.mark.long
def test_no_kernel_spills_or_asks_for_too_much_or_moves_memory_in_small_pieces(codes):
    assert wrong(codes) == []


@pytest.mark.long
@pytest.mark.parametrize("op", OPS)
def test_every_kernel_that_an_op_launches_is_compiled_for_every_chip(op, codes):
    (module,) = {case.module for case in CASES if case.op == op}
    launched = set(re.findall(r"\b(\w+)\[", inspect.getsource(module))) & {
        name for name, kernel in vars(module).items() if isinstance(kernel, KernelInterface)
    }
    assert launched
    for chip in CHIPS:
        assert {code.kernel for code in codes if code.op == op and code.chip == f"sm_{chip}"} == launched


@pytest.mark.long
@pytest.mark.parametrize(("op", "kernel"), NARROW)
def test_a_kernel_that_is_excused_from_wide_accesses_needs_it(op, kernel, codes):
    wide_cases = {case.name for case in CASES if case.op == op and case.wide}
    shares = [code.wide_share for code in codes if (code.op, code.kernel) == (op, kernel) and code.case in wide_cases]
    assert min(shares) < LEAST_WIDE


def test_planted_faults_are_found():
    cases = [planted("spilling", wide=False), planted("narrow", products=True), planted("greedy", wide=False)]
    expected = [
        r"_spilling .*: \d+ instructions spill into [1-9]\d* bytes of stack",
        r"_narrow .*: \d+% of the bytes move 16 at once, 75% wanted",
        r"_greedy .*: [2-9]\d{5} bytes of shared memory, 232448 allowed",
        r"narrow planted: no matrix instructions",
    ]
    found = wrong(compile_everywhere(cases, [90]), cases)
    assert len(found) == len(expected), found
    for text, pattern in zip(found, expected, strict=True):
        assert re.search(pattern, text), text


def test_a_case_that_launches_no_kernel_is_an_error():
    with pytest.raises(RuntimeError, match="silent planted: launches no kernel"):
        compile_everywhere([planted("silent")], [90])
