"""The GPUs that a plan can be made for: a table of facts, and how a user writes them (`16xH100`)."""

import re
from dataclasses import dataclass

from xkd.train.utilisation import TERA, peak_flops


@dataclass(frozen=True)
class Gpu:
    """What the maker's data sheet says of one GPU."""

    device: str  # as its driver calls it: xkd.train.utilisation has the peak by this name
    memory_gib: float  # nominal; the driver keeps a little of it
    nvdec_engines: int | None = None  # that decode video; None: not in the sheet

    @property
    def tflops(self) -> float:
        """TFLOP/s in bfloat16, without sparsity."""
        return peak_flops(self.device) / TERA


# Source: the data sheets of NVIDIA's data centre GPUs.
GPUS = {
    "H100": Gpu("H100 80GB HBM3", 80, 7),
    "H100-PCIe": Gpu("H100 PCIe", 80, 7),
    "H100-NVL": Gpu("H100 NVL", 94, 7),
    "H200": Gpu("H200", 141, 7),
    "B200": Gpu("B200", 180),
    "A100-40GB": Gpu("A100-SXM4-40GB", 40, 5),
    "A100-80GB": Gpu("A100-SXM4-80GB", 80, 5),
    "A40": Gpu("A40", 48, 2),
    "A30": Gpu("A30", 24, 4),
    "A10": Gpu("A10", 24, 2),
    "L40S": Gpu("L40S", 48, 3),
    "L40": Gpu("L40", 48, 3),
    "L4": Gpu("L4", 24, 4),
}


@dataclass(frozen=True)
class Fleet:
    """The GPUs of a run, as many on each node but perhaps on the last."""

    count: int
    name: str
    tflops: float
    memory_gib: float
    nvdec_engines: int | None
    per_node: int

    @property
    def nodes(self) -> int:
        return -(-self.count // self.per_node)

    def __str__(self) -> str:
        nodes = f"{self.nodes} node{'s' * (self.nodes > 1)} of {min(self.count, self.per_node)}"
        return f"{self.count} x {self.name} ({self.memory_gib:g} GiB, {self.tflops:g} TFLOP/s) on {nodes}"


def parse_fleet(text: str, *, per_node: int = 8, tflops: float | None = None, memory_gib: float | None = None) -> Fleet:
    """`16xH100`, or `H100` for one. `tflops` and `memory_gib`, where given, replace the table's numbers.

    Raises ValueError for a GPU that the table does not have, unless both are given, and for text of another form.
    """
    found = re.fullmatch(r"(?:([1-9][0-9]*)x)?([A-Za-z].*)", text.strip())
    if not found:
        raise ValueError(f"--gpus: {text!r} is not of the form 16xH100: write how many, an x, and their name")
    known = {name.lower(): name for name in GPUS}
    name = known.get(found[2].lower(), found[2])
    if name not in GPUS and not (tflops and memory_gib):
        raise ValueError(
            f"--gpus: {name!r} is not one of {', '.join(GPUS)}: for another GPU give its numbers too, "
            "--gpu-tflops (bfloat16, dense) and --gpu-memory-gib"
        )
    gpu = GPUS.get(name)
    return Fleet(
        count=int(found[1] or 1),
        name=name,
        tflops=tflops or gpu.tflops,
        memory_gib=memory_gib or gpu.memory_gib,
        nvdec_engines=gpu.nvdec_engines if gpu else None,
        per_node=per_node,
    )
