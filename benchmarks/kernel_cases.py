"""The work of every kernel at the sizes of the method: what the compile check, the benchmark and the checks on a GPU run.

Shapes: B samples, N tokens of a clip, K visible and M masked ones, D width, P values a patch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

BOTH = (torch.float32, torch.bfloat16)
DECODER_DIM, PROTOTYPES = 384, 8192
STUDENT_VIEWS, GROUP = 2, 32
AWKWARD_SIZE, LARGEST_SIZE = "awkward", "largest"  # for the compile check, not to be timed
SEED = 0


class View(NamedTuple):
    """A global view of the method: the clip (C, T, H, W), its patches, and how many of them stay visible."""

    clip: tuple[int, int, int, int]
    patch: tuple[int, int, int]
    num_keep: int

    @property
    def num_tokens(self) -> int:
        return math.prod(side // p for side, p in zip(self.clip[1:], self.patch, strict=True))

    @property
    def values(self) -> int:
        return self.clip[0] * math.prod(self.patch)


VIDEO = View((3, 32, 112, 112), (4, 16, 16), num_keep=59)
AUDIO = View((1, 1, 80, 448), (1, 4, 16), num_keep=112)
FINETUNED = View((3, 32, 224, 224), (4, 16, 16), num_keep=235)
LARGEST = View((3, 8, 64, 64), (4, 32, 32), num_keep=2)  # patches that just fit a program
MOST = View((1, 1, 256, 256), (1, 4, 4), num_keep=600)  # as many tokens as are sorted
AWKWARD = View((3, 6, 15, 27), (2, 5, 9), num_keep=5)  # 27 tokens of 270 values: no power of two, no multiple of 16 bytes


@dataclass(frozen=True)
class Case:
    """One op on one size: `make(batch, dtype, device)` draws its arguments; `dtype` is that of the activations.

    `wide`: rows are long enough for accesses of 16 bytes. `products`: it multiplies matrices, on tensor cores.
    """

    op: str
    name: str
    make: Callable[[int, torch.dtype, str], tuple]
    dtypes: tuple[torch.dtype, ...] = BOTH
    wide: bool = True
    products: bool = False

    @property
    def module(self) -> ModuleType:
        return import_module(f"xkd.kernels.{self.op}")

    @property
    def function(self) -> Callable:
        """The public function, taking all that `make` draws by position."""
        function, names = getattr(self.module, self.op), _KEYWORDS.get(self.op)
        if not names:
            return function
        return lambda *given: function(*given[: -len(names)], **dict(zip(names, given[-len(names) :], strict=True)))

    @property
    def benchmarked(self) -> bool:
        return not self.name.startswith((AWKWARD_SIZE, LARGEST_SIZE))

    def traffic(self, arguments: Sequence) -> int:
        """Bytes of the arguments that the forward must read: of a clip, the chosen patches only."""
        return _TRAFFIC.get(self.op, _all_bytes)(arguments)

    def backward_traffic(self, arguments: Sequence) -> int:
        """Bytes of the arguments that the backward must read."""
        return arguments[-1].nbytes if self.op == "decoder_assemble" else self.traffic(arguments)

    def flop(self, arguments: Sequence) -> int:
        """Floating-point operations of the forward's products; the backward has as many. 0 where memory is the limit."""
        if not self.products:
            return 0
        *groups, rows, dim = arguments[0].shape
        return 2 * math.prod(groups) * rows**2 * dim


def tensors(values: object) -> list[Tensor]:
    """The tensors among the arguments or in the result of an op."""
    return [each for each in (values if isinstance(values, tuple) else (values,)) if isinstance(each, Tensor)]


def differentiable(arguments: Sequence) -> list[Tensor]:
    return [each for each in tensors(tuple(arguments)) if each.requires_grad]


def forward_and_backward(function: Callable, arguments: Sequence) -> tuple[Tensor | tuple, tuple[Tensor, ...]]:
    """The result, and the gradients of the differentiable arguments for an upstream gradient of 0.5."""
    out, wanted = function(*arguments), differentiable(arguments)
    return out, torch.autograd.grad(out, wanted, torch.full_like(out, 0.5)) if wanted else ()


def _generator(device: str) -> torch.Generator | None:
    return None if device == "meta" else torch.Generator(device).manual_seed(SEED)


def _normal(*shape: int, dtype: torch.dtype, device: str, grad: bool = False) -> Tensor:
    drawn = torch.randn(*shape, device=device, generator=_generator(device)).to(dtype)
    return drawn.requires_grad_(grad)


def _order(batch: int, view: View, device: str) -> Tensor:
    """A random order [B, N] of the tokens."""
    return torch.rand(batch, view.num_tokens, device=device, generator=_generator(device)).argsort(1)


def _clip(batch: int, view: View, dtype: torch.dtype, device: str) -> Tensor:
    if dtype == torch.uint8:
        return torch.randint(256, (batch, *view.clip), dtype=dtype, device=device, generator=_generator(device))
    return _normal(batch, *view.clip, dtype=dtype, device=device)


def _random_mask(view: View, batch: int, dtype: torch.dtype, device: str) -> tuple:
    seed, step = (torch.tensor(value, device=device) for value in (SEED, 7))
    return seed, 0, step, 0, batch, view.num_tokens, view.num_keep


def _levels(dtype: torch.dtype, channels: int, device: str) -> tuple[Tensor | None, Tensor | None]:
    """Mean and deviation that normalise a clip of bytes."""
    if dtype != torch.uint8:
        return None, None
    return torch.full((channels,), 120.0, device=device), torch.full((channels,), 60.0, device=device)


def _patch_gather(view: View, clip_dtype: torch.dtype | None, batch: int, dtype: torch.dtype, device: str) -> tuple:
    clip = _clip(batch, view, clip_dtype or dtype, device)
    return clip, _order(batch, view, device)[:, : view.num_keep], view.patch, *_levels(clip.dtype, view.clip[0], device), dtype


def _masked_recon_loss(view: View, clip_dtype: torch.dtype | None, batch: int, dtype: torch.dtype, device: str) -> tuple:
    clip = _clip(batch, view, clip_dtype or dtype, device)
    drop = _order(batch, view, device)[:, view.num_keep :]
    pred = _normal(batch, view.num_tokens - view.num_keep, view.values, dtype=dtype, device=device, grad=True)
    return clip, drop, pred, view.patch, True, *_levels(clip.dtype, view.clip[0], device)


def _decoder_assemble(view: View, dim: int, batch: int, dtype: torch.dtype, device: str) -> tuple:
    draw = partial(_normal, device=device, grad=True)
    # Under autocast the embedding gives `dtype`, while parameters stay in float32.
    tokens = draw(batch, 1 + view.num_keep, dim, dtype=dtype)
    mask_token, positions = draw(dim, dtype=torch.float32), draw(1 + view.num_tokens, dim, dtype=torch.float32)
    return tokens, mask_token, positions, _order(batch, view, device).argsort(1)


def _mmd(rows_a_sample: int, dim: int, batch: int, dtype: torch.dtype, device: str) -> tuple:
    rows = rows_a_sample * batch
    return _normal(rows, dim, dtype=dtype, device=device, grad=True), rows // 2


def _grouped_mmd(batch: int, dtype: torch.dtype, device: str) -> tuple:
    samples = min(batch, GROUP)
    rows = 2 * STUDENT_VIEWS * samples
    return _normal(batch // samples, rows, PROTOTYPES, dtype=dtype, device=device, grad=True), rows // 2


def _distill_ce(dim: int, batch: int, dtype: torch.dtype, device: str, teacher_views: int = 1) -> tuple:
    draw = partial(_normal, device=device)
    student = draw(STUDENT_VIEWS, batch, dim, dtype=dtype, grad=True)
    return draw(teacher_views, batch, dim, dtype=dtype), draw(dim, dtype=torch.float32), student, 0.07, 0.1


def _all_bytes(arguments: Sequence) -> int:
    return sum(each.nbytes for each in tensors(tuple(arguments)))


def _chosen_patches(arguments: Sequence) -> int:
    clip, ids, *rest = arguments
    (patch,) = (each for each in rest if isinstance(each, tuple))
    chosen = ids.numel() * math.prod(patch) * clip.shape[1] * clip.element_size()
    return chosen + ids.nbytes + _all_bytes(rest)


_TRAFFIC = {"patch_gather": _chosen_patches, "masked_recon_loss": _chosen_patches}

_KEYWORDS = {"patch_gather": ("mean", "std", "dtype"), "masked_recon_loss": ("mean", "std")}

ANY = (torch.float32,)  # the op does not depend on the activations' precision
EVERY = (*BOTH, torch.float16)
CASES: Sequence[Case] = (
    Case("random_mask", "video", partial(_random_mask, VIDEO), ANY),
    Case("random_mask", "audio", partial(_random_mask, AUDIO), ANY),
    Case("random_mask", "224 pixels", partial(_random_mask, FINETUNED), ANY, wide=False),
    Case("random_mask", LARGEST_SIZE, partial(_random_mask, MOST), ANY, wide=False),
    Case("random_mask", AWKWARD_SIZE, partial(_random_mask, AWKWARD), ANY, wide=False),
    Case("patch_gather", "video", partial(_patch_gather, VIDEO, None)),
    Case("patch_gather", "video uint8", partial(_patch_gather, VIDEO, torch.uint8)),
    Case("patch_gather", "audio", partial(_patch_gather, AUDIO, None)),
    Case("patch_gather", LARGEST_SIZE, partial(_patch_gather, LARGEST, torch.float32), wide=False),
    Case("patch_gather", f"{LARGEST_SIZE} uint8", partial(_patch_gather, LARGEST, torch.uint8), wide=False),
    Case("patch_gather", AWKWARD_SIZE, partial(_patch_gather, AWKWARD, None), EVERY, wide=False),
    Case("masked_recon_loss", "video", partial(_masked_recon_loss, VIDEO, None)),
    Case("masked_recon_loss", "video uint8", partial(_masked_recon_loss, VIDEO, torch.uint8)),
    Case("masked_recon_loss", "audio", partial(_masked_recon_loss, AUDIO, torch.float32)),
    Case("masked_recon_loss", LARGEST_SIZE, partial(_masked_recon_loss, LARGEST, torch.float32), wide=False),
    Case("masked_recon_loss", f"{LARGEST_SIZE} uint8", partial(_masked_recon_loss, LARGEST, torch.uint8), wide=False),
    Case("masked_recon_loss", AWKWARD_SIZE, partial(_masked_recon_loss, AWKWARD, None), EVERY, wide=False),
    Case("decoder_assemble", "video", partial(_decoder_assemble, VIDEO, DECODER_DIM)),
    Case("decoder_assemble", "audio", partial(_decoder_assemble, AUDIO, DECODER_DIM)),
    Case("decoder_assemble", LARGEST_SIZE, partial(_decoder_assemble, VIDEO, 4096)),
    Case("decoder_assemble", AWKWARD_SIZE, partial(_decoder_assemble, AWKWARD, 40), EVERY, wide=False),
    Case("mmd", "students", partial(_mmd, 2 * STUDENT_VIEWS, PROTOTYPES), products=True),
    Case("mmd", "groups of 32", _grouped_mmd, products=True),
    Case("mmd", AWKWARD_SIZE, partial(_mmd, 2, 100), EVERY, wide=False, products=True),
    Case("distill_ce", "step", partial(_distill_ce, PROTOTYPES)),
    Case("distill_ce", f"{LARGEST_SIZE} views", partial(_distill_ce, PROTOTYPES, teacher_views=3)),
    Case("distill_ce", f"{LARGEST_SIZE} prototypes", partial(_distill_ce, 65536)),
    Case("distill_ce", AWKWARD_SIZE, partial(_distill_ce, 100), EVERY, wide=False),
)
OPS = tuple(dict.fromkeys(case.op for case in CASES))
# Kernels that cannot move most of their bytes 16 at once, and why.
NARROW = {
    ("random_mask", "_draw"): "it writes tokens to the places where they were drawn; some 7 kB a sample in all",
    ("patch_gather", "_forward"): "it writes three channels, each read in rows of 16 pixels, one between the other",
    ("masked_recon_loss", "_forward"): "predictions have three channels one between the other, as above",
    ("masked_recon_loss", "_backward"): "predictions have three channels one between the other, as above",
}
