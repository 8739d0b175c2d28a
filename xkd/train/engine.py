"""DeepSpeed behind a small surface: the only module that imports it, and the only one that knows its private attributes."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from xkd.train.config import PretrainConfig


def join_process_group() -> None:
    """Joins the ranks of this run: NCCL between GPUs, gloo between CPUs.

    DeepSpeed would first compile a shared-memory operator for CPU inference (two minutes of g++), which training never calls.
    """
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)


def deepspeed_settings(config: PretrainConfig, world_size: int) -> dict:
    """The DeepSpeed configuration of a run, with `deepspeed.overrides` merged over it.

    `gradient_clipping` is 0 because DeepSpeed clips by the global norm, and by default does; ours is per tensor (clipping.py).
    """
    settings = {
        "train_batch_size": config.train.global_batch,
        "train_micro_batch_size_per_gpu": config.train.global_batch // world_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": config.deepspeed.zero_stage},
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
    return _merged(settings, config.deepspeed.overrides)


def _merged(base: dict, over: dict) -> dict:
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return merged


class Engine:
    """A model and its optimizer under ZeRO stage 1 or 2."""

    def __init__(self, model: nn.Module, param_groups: Sequence[dict], config: PretrainConfig, world_size: int):
        import deepspeed

        optimizer = torch.optim.AdamW(param_groups, lr=0.0, betas=config.optim.betas, fused=True)
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=deepspeed_settings(config, world_size))

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
        self._engine.backward(loss)

    def gradient_pieces(self, params: Iterable[nn.Parameter]) -> list[Tensor | None]:
        """This rank's part of each parameter's averaged gradient, to be changed in place between backward and step.

        None where the rank owns no part of the parameter. Reads DeepSpeed's private attributes: its version is pinned.
        """
        return [self._gradient_piece(param) for param in params]

    @staticmethod
    def _gradient_piece(param: nn.Parameter) -> Tensor | None:
        return param._hp_mapping and param._hp_mapping.get_lp_grad_fragment(param._index_in_param_group)

    def step(self) -> bool:
        """Applies the gradients. Returns False where ZeRO skipped the step because some rank's gradients were not finite."""
        self._engine.step()
        return self._engine.was_step_applied()

    def save(self, folder: Path) -> None:
        """Writes every rank's part of weights and optimizer state to `folder`/deepspeed; all ranks must call it."""
        self._engine.save_checkpoint(str(folder), tag="deepspeed", save_latest=False)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, at the same world size and ZeRO stage."""
        self._engine.load_checkpoint(str(folder), tag="deepspeed")
