"""The checks of `make gpu-check` on the kernels: against float64, against the CPU's masks, in CUDA graphs, and their speed."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from xkd.benchmarks.findings import Context, Findings

BATCH = 64
WORKERS = 4
ROUNDS = 20
# Without max-autotune, whose search takes minutes: `xkd bench kernels` has it.
PROVIDERS = ("fused", "eager", "compile")
FIRST_TESTS = ("step", "mmd", "masked_recon_loss")  # a whole step, and the ops that do most
TESTS = Path(__file__).resolve().parent.parent / "tests" / "kernels"


def oracles(context: Context) -> Iterator[Findings]:
    """The tests of the kernels and of the whole step, full sizes too: float64 oracles, gradients, torch.compile, refusals."""
    if not TESTS.is_dir():
        yield Findings(wrong=[f"{TESTS}: not there: the tests are in a checkout only"])
        return
    first = [TESTS / "fused" / f"test_{name}.py" for name in FIRST_TESTS]
    others = [path for path in sorted((TESTS / "fused").glob("test_*.py")) if path not in first]
    for files in context.in_time((first, others)):
        yield _tested(files)


def _tested(files: Sequence[Path]) -> Findings:
    workers = ["-n", str(WORKERS)] if find_spec("xdist") else []  # compiling is the host's work
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, *map(str, files)]
    environment = os.environ | {"XKD_REQUIRE_GPU": "1"}
    run = subprocess.run(command, cwd=TESTS.parents[1], env=environment, capture_output=True, text=True, check=False)
    *log, last = run.stdout.strip().splitlines() or [run.stderr.strip()]
    sys.stdout.write("\n".join([*log, last, run.stderr]))
    failed = [line for line in log if line.startswith(("FAILED", "ERROR"))]
    names = ", ".join(path.stem.removeprefix("test_") for path in files)
    return Findings(facts=[{"tests of": names, "ended": last}], wrong=failed or ([last] if run.returncode else []))


def masks(context: Context) -> Iterator[Findings]:
    """Masks of the GPU, bit for bit those of the CPU, and those of half the batch at a time."""
    yield compare_masks(context.torch_device)


def compare_masks(device: str) -> Findings:
    import torch

    from xkd.benchmarks.kernel_cases import CASES
    from xkd.kernels.random_mask import random_mask

    wrong, cases = [], [case for case in CASES if case.op == "random_mask"]
    for case in cases:
        *_, batch, num_tokens, num_keep = case.make(BATCH, torch.float32, "cpu")
        for seed, step in ((0, 0), (2**63 - 1, 12345)):
            expected = random_mask(seed, 1, step, 3, batch, num_tokens, num_keep)
            halves = [
                random_mask(seed, 1, step, 3 + row, batch // 2, num_tokens, num_keep, device=device) for row in (0, batch // 2)
            ]
            found = [torch.cat(parts).cpu() for parts in zip(*halves, strict=True)]
            if not all(map(torch.equal, found, expected)):
                wrong.append(f"random_mask {case.name}, seed {seed}, step {step}: differs from the CPU's")
    return Findings(facts=[{"what": "masks compared", "value": 2 * len(cases)}], wrong=wrong)


def graphs(context: Context) -> Iterator[Findings]:
    """Every op, forward and backward, captured in a CUDA graph: nothing waits for the host, and a replay gives the same."""
    import torch

    from xkd.benchmarks.kernel_cases import CASES, forward_and_backward, tensors

    for case in context.in_time(case for case in CASES if case.benchmarked):
        arguments = case.make(BATCH, torch.bfloat16, "cuda")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                expected = forward_and_backward(case.function, arguments)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = forward_and_backward(case.function, arguments)
        graph.replay()
        torch.cuda.synchronize()
        same = all(
            torch.equal(a, b)
            for found, wanted in zip(captured, expected, strict=True)
            for a, b in zip(tensors(found), tensors(wanted), strict=True)
        )
        name = f"{case.op}, {case.name}"
        yield Findings(facts=[{"what": name, "value": "captured"}], wrong=[] if same else [f"{name}: a replay gives other numbers"])


def speed(context: Context) -> Iterator[Findings]:
    """Microseconds and shares of copy bandwidth at B = 64: fused, eager, torch.compile; `xkd bench kernels` measures all sizes."""
    import torch

    from xkd.benchmarks.kernel_cases import CASES
    from xkd.benchmarks.kernels import Work, measure_case, measure_ceilings
    from xkd.benchmarks.results import as_text

    ceilings = measure_ceilings(context.torch_device, ROUNDS)
    cases = [case for case in CASES if case.benchmarked]
    for provider, case in context.in_time(product(PROVIDERS, cases)):
        work = Work(case, BATCH, torch.bfloat16, context.torch_device, ROUNDS, ceilings)
        yield Findings(facts=[as_text(row) for row in measure_case(work, provider)])


def step_gains(context: Context) -> Iterator[Findings]:
    """What each kernel gains a whole step of the default network."""
    from xkd.benchmarks.kernel_gains import gains

    yield Findings(facts=gains(batch=32, rounds=10))
