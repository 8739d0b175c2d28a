"""Every kernel against torch eager and torch.compile: forward, backward and both, from small batches to large.

Times are the device's. Before each round a buffer larger than the cache is overwritten several times: the work finds its inputs in
memory, as in a step, and the host has queued all of it by the time the device begins.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from xkd.benchmarks import command
from xkd.benchmarks.harness import MIB
from xkd.benchmarks.kernel_cases import CASES, OPS, Case, differentiable, tensors
from xkd.benchmarks.kernel_gains import gains
from xkd.benchmarks.kernel_plots import plot
from xkd.benchmarks.needs import NEEDS_GPU
from xkd.benchmarks.results import Row, append_csv, as_text, markdown
from xkd.kernels.choice import VARIABLE

WARMUP = 5
FLUSHED_BYTES, FLUSHES = 2**28, 32  # 8 GiB in all: some 3 ms of an H100, more than the host takes to queue an eager round
BATCHES = {"cuda": (16, 64, 256, 1024), "cpu": (1, 4)}
DTYPES = {"cuda": torch.bfloat16, "cpu": torch.float32}
COLUMNS = (
    *("date", "benchmark", "op", "case", "batch", "dtype", "provider", "part", "not_measured", "rounds"),
    *("p20_us", "p50_us", "p80_us", "peak_mib", "gb_per_s", "copy_share", "tflop_per_s", "matmul_share"),
    *("cpu", "cpus", "load", "gpu", "python", "torch", "dali", "deepspeed", "av", "triton", "numpy", "commit", "command"),
)
SHOWN = COLUMNS[2 : COLUMNS.index("cpu")]

FUSED = "fused"
# What XKD_KERNELS is set to, and what becomes of the public function.
PROVIDERS: dict[str, tuple[str, Callable[[Callable], Callable]]] = {
    "eager": ("torch", lambda function: function),
    "compile": ("torch", partial(torch.compile, dynamic=False)),
    # Without CUDA graphs, which would copy the inputs at every call: no less for the device to do, and launches cost nothing here.
    "compile max-autotune": ("torch", partial(torch.compile, dynamic=False, mode="max-autotune-no-cudagraphs")),
    FUSED: ("triton", lambda function: function),
}


@dataclass(frozen=True)
class Ceilings:
    """What the device reaches: bytes a second of a copy (read and written), operations a second of a float32 product (TF32)."""

    copy: float
    matmul: float


@dataclass(frozen=True)
class Work:
    """One case at one batch size, and the ceilings that it is held against."""

    case: Case
    batch: int
    dtype: torch.dtype
    device: str
    rounds: int
    ceilings: Ceilings


def measure_case(work: Work, provider: str) -> list[dict]:
    """A row for each part; where the provider needs a GPU that is not there, or runs out of its memory, one that says so."""
    if provider == FUSED and work.device == "cpu":
        return [_described(work, provider, "") | {"not_measured": NEEDS_GPU}]
    torch._dynamo.reset()
    arguments = work.case.make(work.batch, work.dtype, work.device)
    variable, prepare = PROVIDERS[provider]
    try:
        with _kernels(variable):
            seconds, peak_bytes, out = _timed_parts(prepare(work.case.function), arguments, work)
    except torch.cuda.OutOfMemoryError:
        return [_described(work, provider, "forward") | {"not_measured": "out of memory"}]
    return [
        _described(work, provider, part)
        | _rates(work, part, values, arguments, out)
        | {"peak_mib": peak_bytes and peak_bytes / MIB}
        for part, values in seconds.items()
    ]


def measure_ceilings(device: str, rounds: int) -> Ceilings:
    """Measured now, on this device, by torch's own copy and product."""
    source = torch.empty(FLUSHED_BYTES // 4, device=device)
    target, square = torch.empty_like(source), torch.randn(4096 if device == "cuda" else 1024, dtype=torch.float32, device=device)
    square = square.expand(len(square), -1).contiguous()
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        copied = _timed([lambda: target.copy_(source)], device, rounds)[0]
        multiplied = _timed([lambda: square @ square], device, rounds)[0]
    finally:
        torch.set_float32_matmul_precision(precision)
    return Ceilings(2 * source.nbytes / np.median(copied), 2 * len(square) ** 3 / np.median(multiplied))


def _timed_parts(function: Callable, arguments: Sequence, work: Work) -> tuple[dict[str, np.ndarray], int | None, object]:
    """Seconds of each part in each round, the most memory that a round took beyond its arguments, and the result."""
    wanted, box, upstream = differentiable(arguments), [], None

    def forward():
        box[:] = [function(*arguments)]

    def backward():
        torch.autograd.grad(*box, wanted, upstream)

    if wanted:
        forward()
        upstream = torch.ones_like(*box)
    steps = [forward, backward] if wanted else [forward]
    laps = _timed(steps, work.device, work.rounds)
    box.clear()  # what the last round holds would be freed within the next, and hide as much of its peak
    peak = _peak_bytes(steps) if work.device == "cuda" else None
    forward()
    parts = dict(zip(("forward", "backward"), laps, strict=False))
    return parts | ({"both": laps[0] + laps[1]} if wanted else {}), peak, box[0]


def _timed(steps: Sequence[Callable], device: str, rounds: int) -> list[np.ndarray]:
    """Seconds of each of the steps in each round."""
    flushed = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device=device) if device == "cuda" else None
    marks = []
    for _ in range(WARMUP + rounds):
        if flushed is not None:
            for _ in range(FLUSHES):
                flushed.zero_()
        marks.append([_now(device)])
        for step in steps:
            step()
            marks[-1].append(_now(device))
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = np.array([[_between(a, b) for a, b in pairwise(line)] for line in marks[WARMUP:]])
    return list(seconds.T)


def _now(device: str) -> "torch.cuda.Event | float":
    if device == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start, end) -> float:
    return end - start if isinstance(end, float) else start.elapsed_time(end) / 1000


def _peak_bytes(steps: Sequence[Callable]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for step in steps:
        step()
    return torch.cuda.max_memory_allocated() - before


def _described(work: Work, provider: str, part: str) -> dict:
    dtype = str(work.dtype).removeprefix("torch.")
    return {"op": work.case.op, "case": work.case.name, "batch": work.batch, "dtype": dtype, "provider": provider, "part": part}


def _rates(work: Work, part: str, seconds: np.ndarray, arguments: Sequence, out: object) -> dict:
    """Times, and the needed bytes and operations a second: the same for every provider, whatever it moves and computes."""
    p20, p50, p80 = np.percentile(seconds, [20, 50, 80])
    written = sum(each.nbytes for each in tensors(out))
    passes = {
        "forward": work.case.traffic(arguments) + written,
        "backward": work.case.backward_traffic(arguments) + written + sum(each.nbytes for each in differentiable(arguments)),
    }
    moved = passes[part] if part in passes else sum(passes.values())
    flop = work.case.flop(arguments) * (2 if part == "both" else 1)
    rates = {"gb_per_s": moved / p50 / 1e9, "copy_share": moved / p50 / work.ceilings.copy}
    if flop:
        rates |= {"tflop_per_s": flop / p50 / 1e12, "matmul_share": flop / p50 / work.ceilings.matmul}
    return {"rounds": len(seconds), "p20_us": 1e6 * p20, "p50_us": 1e6 * p50, "p80_us": 1e6 * p80, **rates}


@contextmanager
def _kernels(choice: str) -> Iterator[None]:
    """XKD_KERNELS is so while the context is open."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = choice
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def main(arguments: Sequence[str] | None = None) -> int:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = command.parser("kernels", "Time every kernel, torch eager and torch.compile.", rounds=50)
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS, help="(default: all)")
    parser.add_argument("--providers", nargs="+", choices=PROVIDERS, default=list(PROVIDERS), help="(default: all)")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES[device], help="samples (default %(default)s)")
    parser.add_argument("--step-batch", type=int, default=32, help="samples of the whole step; 0: no whole step (default 32)")
    parser.add_argument("--plot", type=Path, help="picture to draw of the rows (.png, .svg)")
    options, rows = parser.parse_args(list(arguments or [])), []
    recorder = command.recorder("kernels", list(arguments or []))
    ceilings = measure_ceilings(device, options.rounds)
    print(f"copy {ceilings.copy / 1e9:.0f} GB/s, product {ceilings.matmul / 1e12:.3g} TFLOP/s")
    for case in (case for case in CASES if case.op in options.ops and case.benchmarked):
        for batch in options.batches:
            work = Work(case, batch, DTYPES[device], device, options.rounds, ceilings)
            found = [_row(facts, recorder.origin) for provider in options.providers for facts in measure_case(work, provider)]
            append_csv(options.csv, found, COLUMNS)
            print(markdown(found, SHOWN), flush=True)
            rows += found
    if device == "cpu":
        print("no GPU: what the fused kernels gain a whole step is left out")
    elif options.step_batch:
        found = [row | recorder.origin for row in gains(options.step_batch, options.rounds)]
        path = options.csv.with_stem(f"{options.csv.stem}_gains")
        append_csv(path, found, tuple(found[0]))
        print(markdown(found, ("kernel", "fused_ms", "without_ms", "gain", "note")))
    if options.plot:
        plot(rows, options.plot)
    print(f"{len(rows)} rows added to {options.csv}")
    return 0


def _row(facts: dict, origin: Row) -> Row:
    return dict.fromkeys(COLUMNS, "") | as_text(facts) | origin
