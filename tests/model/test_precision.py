"""What stays in float32 when the rest does not, and that bfloat16 and torch.compile give the same losses."""

from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.model.tiny import tiny_batch, tiny_xkd

# Operations of the fp32 islands, wherever they run: teacher and student probabilities, refinement, MMD, norms of l2-normalisation,
# weight norm and energy. The transformers have none of them: their attention is one fused operation.
ISLANDS = {
    "softmax": ("_softmax", "_log_softmax"),
    "kernels of MMD": ("exp", "expm1"),
    "norms": ("linalg_vector_norm",),
    "squares and roots of reconstruction": ("square", "pow", "sqrt"),
}
PROTOTYPES = 24  # tiny's projector: only its last LayerNorm is this wide

MODES = {
    "autocast": (torch.float32, lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "module": (torch.bfloat16, nullcontext),
}
# bfloat16 has 8 bits: 2^-8 = 0.4 % an operation. Stated for losses of order 1, absolute and relative.
BF16_TOLERANCE = 0.02


class Trace(TorchDispatchMode):
    """Collects (operation, dtypes of the floating inputs, shape of the output)."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, tuple | list) and out else out
        dtypes = {arg.dtype for arg in args if isinstance(arg, torch.Tensor) and arg.is_floating_point()}
        self.calls.append((func.overloadpacket.__name__, dtypes, tuple(getattr(first, "shape", ()))))
        return out


def traced(mode, refinement="softmax"):
    dtype, context = MODES[mode]
    xkd = tiny_xkd(dtype=dtype, refinement=refinement)
    with Trace() as trace, context():
        output = xkd(*tiny_batch(), step=0)
    return xkd, output, trace.calls


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("island", ISLANDS)
def test_an_island_computes_in_float32(mode, island):
    _, _, calls = traced(mode)
    dtypes = [dtypes for name, dtypes, _ in calls if name in ISLANDS[island]]
    assert dtypes
    assert all(found == {torch.float32} for found in dtypes), [call for call in calls if call[0] in ISLANDS[island]]


@pytest.mark.parametrize("mode", MODES)
def test_the_last_layer_norm_of_the_head_computes_in_float32(mode):
    _, _, calls = traced(mode)
    dtypes = [dtypes for name, dtypes, shape in calls if name == "native_layer_norm" and shape[-1] == PROTOTYPES]
    assert dtypes == [{torch.float32}] * 4  # two students, two teachers


@pytest.mark.parametrize("mode", MODES)
def test_the_networks_themselves_multiply_in_bfloat16(mode):
    _, _, calls = traced(mode)
    blocks = [dtypes for name, dtypes, _ in calls if name == "_scaled_dot_product_flash_attention_for_cpu"]
    assert blocks == [{torch.bfloat16}] * len(blocks) != []


@pytest.mark.parametrize("mode", MODES)
def test_losses_statistics_and_means_leave_in_float32_near_those_of_float32(mode):
    full = tiny_xkd(refinement="softmax")(*tiny_batch(), step=0)
    _, output, _ = traced(mode)
    found = {"loss": output.loss, **output.parts, **output.stats}
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert output.teacher_mean_video.dtype == output.teacher_mean_audio.dtype == torch.float32
    for name, part in {"loss": full.loss, **full.parts}.items():
        torch.testing.assert_close(found[name], part, rtol=BF16_TOLERANCE, atol=BF16_TOLERANCE, msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_in_bfloat16_point_where_those_of_float32_do(mode):
    full = tiny_xkd(refinement="softmax")
    full(*tiny_batch(), step=0).loss.backward()
    xkd, output, _ = traced(mode)
    output.loss.backward()
    ours, theirs = (torch.cat([p.grad.flatten().float() for p in module.parameters() if p.requires_grad]) for module in (xkd, full))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.999


def test_in_a_network_of_bfloat16_the_centres_keep_float32():
    xkd = tiny_xkd()
    mean = torch.rand(24)
    xkd.update_centers(mean, mean)
    xkd.to(torch.bfloat16)
    assert xkd.audio_teacher.head.directions.dtype == torch.bfloat16
    torch.testing.assert_close(xkd.video_teacher.center, 0.1 * mean, rtol=1e-6, atol=0)
    for _ in range(100):
        xkd.update_centers(mean, mean)
    torch.testing.assert_close(xkd.audio_teacher.center, mean, rtol=1e-3, atol=0)


def compiled_and_eager(backend, autocast=False, **changes):
    """(losses and gradients) of the compiled step and of the eager one."""
    results = []
    for compiling in (True, False):
        xkd = tiny_xkd(encoder={"dim": 12, "depth": 1, "heads": 3}, **changes)
        step = torch.compile(xkd, backend=backend, fullgraph=True) if compiling else xkd
        with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext():
            output = step(*tiny_batch(), step=0)
        output.loss.backward()
        gradients = {name: p.grad for name, p in xkd.named_parameters() if p.grad is not None}
        results.append(({"loss": output.loss.detach(), **output.parts, **output.stats}, gradients))
    torch._dynamo.reset()
    return results


def test_aot_eager_compiles_the_autoencoders_to_one_graph_with_the_same_losses():
    ours, eager = compiled_and_eager("aot_eager", weights={"recon": 1.0, "cmkd": 0.0, "align": 0.0})
    torch.testing.assert_close(ours, eager, rtol=1e-5, atol=1e-6)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_the_whole_step_compiles_to_one_graph_with_the_same_losses_and_gradients(backend):
    ours, eager = compiled_and_eager(backend)
    torch.testing.assert_close(ours, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_the_step_compiles_under_autocast_too(backend):
    (ours, _), (eager, _) = compiled_and_eager(backend, autocast=True)
    torch.testing.assert_close(ours, eager, rtol=BF16_TOLERANCE, atol=BF16_TOLERANCE)
