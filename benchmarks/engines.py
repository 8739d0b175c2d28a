"""The ways of taking a training step that are measured beside each other: by DeepSpeed at each ZeRO stage, and by torch alone."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from xkd.benchmarks.harness import Measurement, Setup, measure
from xkd.train.config import PretrainConfig, TrainingConfig
from xkd.train.distributed import Place, exchange
from xkd.train.engine import Engine, join_process_group, precision_of
from xkd.train.pretraining import Pretraining
from xkd.train.trainer import Trainer
from xkd.train.zero import Replicated


class TorchEngine:
    """What the trainer asks of its engine (xkd.train.engine.Engine) without DeepSpeed: each rank has all weights and moments.

    With `exchange`, DistributedDataParallel averages the gradients beside the backward. Without it no gradient leaves its rank, so
    that ranks drift apart: what a step would take if sending were free.
    """

    def __init__(self, model: nn.Module, groups: Sequence[dict], config: TrainingConfig, world_size: int, *, exchange: bool):
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        model.to(self.device)
        self.zero = Replicated(None)
        self._optimizer = torch.optim.AdamW(groups, lr=0.0, fused=True)
        self._network = model
        if exchange:
            devices = [self.device] if on_gpu else None
            self._network = DistributedDataParallel(model, devices, broadcast_buffers=False, gradient_as_bucket_view=True)
        self._autocast = partial(torch.autocast, self.device.type, torch.bfloat16, enabled=precision_of(config) == "autocast")
        self._accumulation, self._done = config.train.accumulation, 0

    @property
    def param_groups(self) -> list[dict]:
        return self._optimizer.param_groups

    def forward(self, *args, **kwargs):
        # What DistributedDataParallel.no_sync sets; it holds for the backward of this forward.
        self._network.require_backward_grad_sync = self._done == self._accumulation - 1
        with self._autocast():
            return self._network(*args, **kwargs)

    def backward(self, loss: Tensor) -> None:
        (loss / self._accumulation).backward()
        self._done = (self._done + 1) % self._accumulation

    def step(self, apply: bool) -> None:
        if apply:
            self._optimizer.step()
        self._optimizer.zero_grad()


@dataclass(frozen=True)
class Provider:
    """A way to take steps; what is None is as the configuration says."""

    open_engine: Callable = Engine
    stage: int | None = None  # of ZeRO
    compile: bool | None = None

    def apply(self, config: PretrainConfig) -> PretrainConfig:
        """The configuration that is trained by."""
        train = config.train if self.compile is None else config.train.model_copy(update={"compile": self.compile})
        zero = config.deepspeed if self.stage is None else config.deepspeed.model_copy(update={"zero_stage": self.stage})
        return config.model_copy(update={"train": train, "deepspeed": zero})

    def missing(self, config: PretrainConfig) -> str | None:
        """Why it cannot take this configuration's steps, if so."""
        has_masters = self.open_engine is Engine and self.apply(config).deepspeed.zero_stage > 0
        return None if has_masters or precision_of(config) != "bf16" else "bf16 weights need fp32 masters: ZeRO stage 1, 2 or 3"

    def open(self, config: PretrainConfig, place: Place, steps_per_epoch: int) -> Trainer:
        return Trainer(Pretraining(self.apply(config), place, steps_per_epoch), self.open_engine)


CPU_TIMES = ("cpu_s", "cpu_p20_s", "cpu_p80_s")
DEEPSPEED, DDP, ALONE = "deepspeed", "ddp", "alone"
_DDP = partial(TorchEngine, exchange=True)
STEPPERS = {  # for the parts of a step
    DEEPSPEED: Provider(),
    f"{DEEPSPEED} compile": Provider(compile=True),
    DDP: Provider(_DDP),
    f"{DDP} compile": Provider(_DDP, compile=True),
}
EXCHANGES = {  # for what ranks send
    ALONE: Provider(partial(TorchEngine, exchange=False)),
    DDP: Provider(_DDP),
    **{f"zero {stage}": Provider(stage=stage) for stage in range(4)},
}


@contextmanager
def process_group():
    """The ranks' process group, joined unless it has been, and left by whoever joined it."""
    if dist.is_initialized():
        yield
        return
    join_process_group()
    try:
        yield
    finally:
        dist.destroy_process_group()


def measure_on_ranks(setup: Setup, providers: Sequence[str], **settings) -> list[Measurement]:
    """`harness.measure` on every rank at once: the times of this rank, the CPU time of all. Rounds must not end by a budget."""
    with process_group():
        found = measure(setup, providers, **settings)
        of_all = exchange([[getattr(measurement, name) for name in CPU_TIMES] for measurement in found])
    sums = [map(sum, zip(*of_one, strict=True)) for of_one in zip(*of_all, strict=True)]
    return [replace(one, **dict(zip(CPU_TIMES, own, strict=True))) for one, own in zip(found, sums, strict=True)]
