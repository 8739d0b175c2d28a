"""How much memory a forward and backward takes beside weights and gradients: the network runs on tensors without data."""

import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xkd.model.xkd import XKD
from xkd.train.config import PretrainConfig


def peak_bytes(config: PretrainConfig, clips: int, precision: str) -> int:
    """The most bytes that tensors of a micro-batch of so many clips hold at once: neither weights, nor gradients, nor the views.

    The real network runs, on torch's operators for CPUs, which keep what those for GPUs keep; the kernels of XKD_KERNELS=triton and
    train.compile keep less. An allocator's holes and the workspaces of libraries come on top. `precision` is one of the engine's.
    """
    loss = config.loss.model_copy(update={"align_group": clips})  # which group is compared takes next to nothing
    with warnings.catch_warnings(), _WithoutData():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by the copy that makes a teacher
        with _default_dtype(torch.bfloat16 if precision == "bf16" else torch.float32):
            network = XKD(config.model, loss, **config.data.view_shapes, seed=config.seed)
            views = [torch.empty(shape) for shape in view_shapes(config, clips)]
        autocast = torch.autocast("cpu", torch.bfloat16) if precision == "autocast" else nullcontext()
        with Live([*network.parameters(), *network.buffers(), *views]) as live:
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(lambda parameter: live.forget(parameter.grad))
            with autocast:
                output = network(*views, step=0)
            output.loss.backward()
    return live.peak


def view_shapes(config: PretrainConfig, clips: int) -> list[tuple[int, ...]]:
    """The shapes of a batch's views in the order in which the network takes them."""
    data, shapes = config.data, config.data.view_shapes
    locals_ = {"local_video_shape": data.video.local_view.count, "local_audio_shape": data.audio.local_view.count}
    names = ("video_shape", "local_video_shape", "audio_shape", "local_audio_shape")
    return [(clips, *([locals_[name]] if name in locals_ else []), *shapes[name]) for name in names]


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Live(TorchDispatchMode):
    """Counts, while it is entered, the bytes of the storages that operators have made and that something still refers to."""

    def __init__(self, ignored: list[Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self._ignored = {
            tensor.untyped_storage()._cdata for tensor in ignored
        }  # kept alive by their owner, so no other has their key
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return found

    def forget(self, tensor: Tensor) -> None:
        """Counts it no longer: it belongs to another account."""
        key = tensor.untyped_storage()._cdata
        self._ignored.add(key)
        self._gone(key)

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes or key in self._ignored:
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


class _WithoutData(FakeTensorMode):
    """Makes tensors that have shapes only. A network that copies a part of itself (students become teachers) stays in this mode."""

    def __deepcopy__(self, memo):
        return self
