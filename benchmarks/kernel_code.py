"""Compiles every kernel for NVIDIA chips that need not be there, and reads in the machine code what became of it.

`python -m xkd.benchmarks.kernel_code` prints a row for each kernel and configuration, and ends with exit code 1 if one spills
registers, asks for more shared memory than its chip has, or, where rows are long, moves most bytes in pieces of less than 16.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import torch
import triton
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget

from xkd.benchmarks.kernel_cases import CASES, NARROW, Case, forward_and_backward
from xkd.benchmarks.results import markdown

CHIPS = {80: 166_912, 90: 232_448}  # compute capability: bytes of shared memory that a block may have
WIDEST = 16  # bytes that a thread can load or store at once
LEAST_WIDE = 0.75  # share of the bytes that a kernel on long rows moves so
BATCH = 64
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Code:
    """What the compiler made of one kernel in one configuration."""

    chip: str
    op: str
    case: str
    dtype: str
    kernel: str
    configuration: str
    registers: int
    spilled_bytes: int  # of the stack; the instructions that read or write it are counted in `spills`
    spills: int
    shared_bytes: int
    load_bytes: int  # of the widest access to global memory
    store_bytes: int
    wide_share: float  # of the bytes that all loads and stores of the code move once, those that move 16 at once
    matrix: str  # the widest kind of matrix instruction

    def wrong(self, case: Case) -> list[str]:
        """What is wrong with it, in words."""
        name = f"{self.chip} {self.op} {self.case} {self.dtype} {self.kernel} ({self.configuration})"
        limit = CHIPS[int(self.chip.removeprefix("sm_"))]
        found = []
        if self.spills or self.spilled_bytes:
            found.append(f"{name}: {self.spills} instructions spill into {self.spilled_bytes} bytes of stack")
        if self.shared_bytes > limit:
            found.append(f"{name}: {self.shared_bytes} bytes of shared memory, {limit} allowed")
        if case.wide and self.wide_share < LEAST_WIDE and (self.op, self.kernel) not in NARROW:
            found.append(f"{name}: {self.wide_share:.0%} of the bytes move {WIDEST} at once, {LEAST_WIDE:.0%} wanted")
        return found


class CompileOnly:
    """A driver of Triton for a chip that is not there: kernels are compiled and kept, in `launched`, and not run."""

    def __init__(self, capability: int):
        self.capability, self.launched = capability, []
        self.utils = SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": sys.maxsize},  # what is too much is to be seen, not raised
            load_binary=lambda name, cubin, shared, device: (None, cubin, 0, 0, 1024),
        )

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_benchmarker(self):
        return self._try_configuration

    def launcher_cls(self, source, metadata):
        # The place of a constant in a tuple of arguments (a stride of 1) has two numbers.
        constants = {source.fn.arg_names[place[0]]: value for place, value in source.constants.items() if len(place) == 1}

        def launch(x, y, z, stream, cubin, *_):
            self.launched.append((metadata, constants, cubin))

        return launch

    @staticmethod
    def _try_configuration(call, quantiles) -> list[float]:
        try:
            call()
        except Exception as error:  # the autotuner would pass over it in silence
            raise RuntimeError("a configuration of the autotuner does not compile") from error
        return [0.0, 0.0, 0.0]


class LaunchOnMeta(TorchDispatchMode):
    """The ops of `xkd` run their launchers on meta tensors too, where they would be traced."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.namespace == "xkd":
            return torch._library.custom_ops.OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
        return func(*args, **kwargs)


def compile_cases(capability: int, cases: Sequence[Case], batch: int = BATCH) -> list[Code]:
    """The code of all that the cases launch, forward and backward. For a process of its own: Triton's driver is replaced."""
    from xkd.kernels import choice

    driver = CompileOnly(capability)
    triton.runtime.driver.set_active(driver)
    choice.implementation = lambda device_type: "triton"
    codes = []
    for case in cases:
        for dtype in case.dtypes:
            driver.launched.clear()
            with LaunchOnMeta():
                forward_and_backward(case.function, case.make(batch, dtype, "meta"))
            if not driver.launched:
                raise RuntimeError(f"{case.op} {case.name}: launches no kernel")
            unique = {(metadata.hash, cubin): (metadata, constants) for metadata, constants, cubin in driver.launched}
            codes += [_read(capability, case, dtype, *known, cubin) for (_, cubin), known in unique.items()]
    return codes


def compile_everywhere(cases: Sequence[Case] = CASES, chips: Sequence[int] = tuple(CHIPS)) -> list[Code]:
    """`compile_cases` for every chip, each in a fresh process."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return [code for codes in pool.map(compile_cases, chips, [cases] * len(chips)) for code in codes]


def wrong(codes: Sequence[Code], cases: Sequence[Case] = CASES) -> list[str]:
    """What is wrong with any of the kernels; an op that multiplies matrices must do so on tensor cores."""
    case_of = {(case.op, case.name): case for case in cases}
    found = [text for code in codes for text in code.wrong(case_of[code.op, code.case])]
    for chip in dict.fromkeys(code.chip for code in codes):
        for case in cases:
            mine = [code for code in codes if (code.chip, code.op, code.case) == (chip, case.op, case.name)]
            if case.products and not any(code.matrix for code in mine):
                found.append(f"{chip} {case.op} {case.name}: no matrix instructions")
    return found


def _read(capability: int, case: Case, dtype: torch.dtype, metadata, constants: dict, cubin: bytes) -> Code:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _output("cuobjdump", "-res-usage", file.name)
        instructions = _output("nvdisasm", "-c", file.name)
    widths = {kind: [_width(*found) for found in re.findall(names, instructions)] for kind, names in ACCESSES.items()}
    moved = widths["load"] + widths["store"]
    numbers = {name: int(re.search(rf"\b{name}:(\d+)", usage).group(1)) for name in ("REG", "STACK", "LOCAL")}
    block = {name: value for name, value in constants.items() if name.isupper()}
    configuration = {"warps": metadata.num_warps, "stages": metadata.num_stages, **block}
    return Code(
        chip=f"sm_{capability}",
        op=case.op,
        case=case.name,
        dtype=str(dtype).removeprefix("torch."),
        kernel=metadata.name,
        configuration=" ".join(f"{name}={value}" for name, value in configuration.items()),
        registers=numbers["REG"],
        spilled_bytes=numbers["STACK"] + numbers["LOCAL"],
        spills=len(re.findall(r"\b(?:LDL|STL)\b", instructions)),
        shared_bytes=metadata.shared,
        load_bytes=max(widths["load"], default=0),
        store_bytes=max(widths["store"], default=0),
        wide_share=round(sum(width for width in moved if width == WIDEST) / max(1, sum(moved)), 3),
        matrix=" ".join(name for name, pattern in MATRIX.items() if re.search(pattern, instructions)),
    )


ACCESSES = {"load": r"\b(LDG|LDGSTS|UTMALDG|UBLKCP)\b((?:\.\w+)*)", "store": r"\b(STG|UTMASTG)\b((?:\.\w+)*)"}
MATRIX = {"mma": r"\b[HI]MMA\b", "wgmma": r"\b[HQ]GMMA\b"}
_WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


def _width(name: str, suffixes: str) -> int:
    """Bytes that a thread moves with such an instruction, LDG.E.128 say; a bulk copy is as wide as can be."""
    if name.startswith("U"):
        return WIDEST
    return next((_WIDTHS[each] for each in suffixes.split(".") if each in _WIDTHS), 4)


def _output(tool: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, check=True).stdout


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m xkd.benchmarks.kernel_code", description="Compile every kernel without a GPU.")
    parser.add_argument("--chips", nargs="+", type=int, choices=CHIPS, default=list(CHIPS), help="(default: all)")
    parser.add_argument("--ops", nargs="+", choices=sorted({case.op for case in CASES}), help="(default: all)")
    parser.add_argument("--json", type=Path, help="file to write the rows to as well")
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if not options.ops or case.op in options.ops]
    rows = compile_everywhere(cases, options.chips)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print(markdown([{name: str(value) for name, value in asdict(row).items()} for row in rows], list(asdict(rows[0]))), end="")
    found = wrong(rows, cases)
    print(
        "\n".join(found)
        or f"{len(rows)} kernels: no spills, shared memory in bounds, accesses of {WIDEST} bytes where rows are long"
    )
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
