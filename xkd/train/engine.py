"""DeepSpeed behind a small surface: the only module that imports it, and the only one that knows its private attributes."""

import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from datetime import timedelta

import torch
from torch import Tensor, nn

from xkd.train.config import TrainingConfig
from xkd.train.zero import STAGES

# What DeepSpeed is told of each precision. Gradients are accumulated and summed in fp32 in all of them (under autocast DeepSpeed
# would send those of linear layers in bf16). Whether they are finite is the trainer's to say, so its own search is off.
PRECISIONS: dict[str, dict] = {
    "fp32": {},
    "autocast": {"torch_autocast": {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}},
    "bf16": {
        "bf16": {"enabled": True, "check_grad_overflow": False},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
    },
}


def join_process_group(hang_timeout_minutes: float | None = None) -> None:
    """Joins the ranks of this run: NCCL between GPUs, gloo between CPUs.

    An operation waits for other ranks a minute longer than the watchdog, which has more to say of them; DeepSpeed's limit
    (DEEPSPEED_TIMEOUT, or 10 minutes) holds where it is longer.
    DeepSpeed would first compile a shared-memory operator for CPU inference (two minutes of g++), which training never calls.
    """
    import deepspeed
    import deepspeed.ops
    from deepspeed.constants import default_pg_timeout

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    timeout = max(default_pg_timeout, timedelta(minutes=(hang_timeout_minutes or 0) + 1))
    deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo", timeout=timeout, verbose=False)


def precision_of(config: TrainingConfig) -> str:
    """The precision of a run on this machine: one of PRECISIONS."""
    chosen = config.train.precision
    return chosen if chosen != "auto" else "autocast" if torch.cuda.is_available() else "fp32"


def deepspeed_settings(config: TrainingConfig, world_size: int) -> dict:
    """The DeepSpeed configuration of a run, with `deepspeed.overrides` merged over it.

    `gradient_clipping` is 0 because DeepSpeed clips by the global norm, and by default does; ours is per tensor (clipping.py).
    """
    stage, precision, accumulation = config.deepspeed.zero_stage, precision_of(config), config.train.accumulation
    zero: dict = {"stage": stage}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 0  # no gathered copy of a teacher outlives the step that moves it
        # DeepSpeed's own linear layer rounds once more, between product and bias, and replaces torch's in the whole process.
        # Torch's keeps gathered weights until the backward; with activation checkpointing it does not.
        zero["memory_efficient_linear"] = False
    elif stage == 2 or (stage == 1 and precision != "bf16"):
        zero["compute_grad_norm"] = False  # clipping has found it
    settings = {
        "train_batch_size": config.train.global_batch,
        "train_micro_batch_size_per_gpu": config.train.global_batch // (world_size * accumulation),
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 0.0,
        "zero_optimization": zero,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
        **PRECISIONS[precision],
    }
    return _merged(settings, config.deepspeed.overrides)


def _merged(base: dict, over: dict) -> dict:
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return merged


class Engine:
    """A model and its optimizer under ZeRO; `zero` tells where its stage keeps weights and gradients."""

    def __init__(self, model: nn.Module, param_groups: Sequence[dict], config: TrainingConfig, world_size: int):
        import deepspeed

        self._optimizer = torch.optim.AdamW(param_groups, lr=0.0, fused=True)
        settings = deepspeed_settings(config, world_size)
        with redirect_stdout(None):  # on which it prints its use of memory, group by group
            self._engine, *_ = deepspeed.initialize(model=model, optimizer=self._optimizer, config=settings)
        self.zero = STAGES[config.deepspeed.zero_stage](self._engine.optimizer)

    @property
    def device(self) -> torch.device:
        return self._engine.device

    @property
    def param_groups(self) -> list[dict]:
        """The optimizer's groups; set `lr` and `weight_decay` here before each step."""
        return self._engine.optimizer.param_groups

    def forward(self, *args, **kwargs):
        return self._engine(*args, **kwargs)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of one micro-batch, divided by their number; those of a step's last are averaged over the ranks."""
        last = self._engine.is_gradient_accumulation_boundary()
        self._engine.backward(loss)
        if not last:
            self._engine.step()  # counts the micro-batch and updates nothing

    def step(self, apply: bool) -> None:
        """Updates the weights, or (unless `apply`) drops the gradients and leaves weights and moments as they are.

        Every rank must say the same. DeepSpeed goes its usual way in both cases; AdamW is told what torch's own gradient scaler
        would tell it of gradients that are not finite.
        """
        self._optimizer.found_inf = None if apply else torch.ones((), device=self.device)
        self._engine.step()
        self.zero.clear_gradients()

    def moments(self, flat: Tensor) -> dict[str, Tensor]:
        """AdamW's state of a tensor that it updates, to be changed in place: `exp_avg`, `exp_avg_sq` and `step`."""
        state = self._optimizer.state[flat]
        if not state:  # no step yet: what AdamW itself would begin with
            state |= {name: torch.zeros_like(flat) for name in ("exp_avg", "exp_avg_sq")}
            state["step"] = torch.zeros((), device=flat.device)
        return state

    @property
    def steps_applied(self) -> int:
        """Steps that have updated weights."""
        return max((int(state["step"]) for state in self._optimizer.state.values() if state), default=0)

    @steps_applied.setter
    def steps_applied(self, steps: int) -> None:
        for state in self._optimizer.state.values():
            state["step"].fill_(steps)
