"""What each kernel gains a whole training step: the step with all kernels, with none, and with one op at a time left to torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module

import torch

from xkd.benchmarks.harness import Lap, Measurement, Round, measure
from xkd.benchmarks.kernel_cases import OPS, SEED
from xkd.benchmarks.results import Row, as_text
from xkd.losses import LossConfig
from xkd.model.config import ModelConfig
from xkd.model.xkd import XKD
from xkd.pipelines.config import DataConfig

FUSED, TORCH = "all fused", "all in torch"
LEFT = {FUSED: (), TORCH: OPS, **{op: (op,) for op in OPS}}  # provider: ops that are left to torch
LITTLE = 0.01  # a kernel that gains a step less than this is listed so


@contextmanager
def in_torch(*ops: str) -> Iterator[None]:
    """These ops run in torch, whatever XKD_KERNELS says; for measuring only."""
    modules = [import_module(f"xkd.kernels.{op}") for op in ops]
    before = [module.use_triton for module in modules]
    for module in modules:
        module.use_triton = lambda *_: False
    try:
        yield
    finally:
        for module, function in zip(modules, before, strict=True):
            module.use_triton = function


class Step:
    """Forward and backward of the default network on random views, under autocast to bfloat16."""

    def __init__(self, batch: int, device: str, model: ModelConfig | None = None, data: DataConfig | None = None):
        shapes = (data or DataConfig()).view_shapes
        self.network = XKD(model or ModelConfig(), LossConfig(), **shapes, seed=SEED).to(device)
        draw = partial(torch.randn, device=device)
        video, audio, local_video, local_audio = (draw(batch, *shape) for shape in shapes.values())
        self.views = video, local_video[:, None], audio, local_audio[:, None]

    def __call__(self, lap: Lap) -> int:
        with torch.autocast(self.views[0].device.type, torch.bfloat16):
            output = self.network(*self.views, step=0)
        output.loss.backward()
        self.network.zero_grad()
        return len(self.views[0])


@contextmanager
def setup(step: Step, provider: str) -> Iterator[Round]:
    def round_of_work(lap: Lap) -> int:
        with in_torch(*LEFT[provider]):
            return step(lap)

    yield round_of_work


def gains(batch: int, rounds: int) -> list[Row]:
    """Measures on the GPU; see `rows_of`."""
    return rows_of(measure(partial(setup, Step(batch, "cuda")), list(LEFT), rounds=rounds, device="cuda"))


def rows_of(measurements: Sequence[Measurement]) -> list[Row]:
    """A row for each op: the step without its kernel, and the share of that which the kernel saves; then for all ops together."""
    seconds = {each.provider: each.wall_p50_s for each in measurements}
    rows = []
    for provider in (*OPS, TORCH):
        saved = 1 - seconds[FUSED] / seconds[provider]
        note = "" if saved >= LITTLE else f"gains the step less than {LITTLE:.0%}"
        times = {"fused_ms": 1000 * seconds[FUSED], "without_ms": 1000 * seconds[provider]}
        rows.append(as_text({"kernel": provider if provider in OPS else "all", **times, "gain": saved, "note": note}))
    return rows
