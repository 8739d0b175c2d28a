"""decoder_assemble in Triton."""

import pytest
import torch

from tests.kernels.oracle import assert_near
from xkd.kernels.decoder_assemble import decoder_assemble, reference

SHAPES = [  # B, K, N, D: B beyond one split of the backward, N no multiple of a program's rows, D no power of two, long rows
    (1, 1, 2, 16),
    (3, 4, 9, 24),
    (9, 5, 17, 40),
    (2, 2, 5, 1030),
]
FULL_SIZE = [(64, 59, 392, 384), (64, 112, 560, 384), (4, 59, 392, 2048)]


def inputs(shape, num_class, dtype, device):
    batch, num_keep, num_tokens, dim = shape
    torch.manual_seed(0)
    order = torch.rand(batch, num_tokens).argsort(1)
    tokens = torch.randn(batch, num_class + num_keep, dim)
    tensors = [tokens, torch.randn(dim), torch.randn(num_class + num_tokens, dim)]
    return [tensor.to(device, dtype).requires_grad_() for tensor in tensors], order.argsort(1).to(device)


def run(function, tensors, restore, upstream):
    out = function(*tensors, restore)
    return out, *torch.autograd.grad(out, tensors, upstream.to(out.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("num_class", [0, 1])
@pytest.mark.parametrize("shape", [*SHAPES, *(pytest.param(shape, marks=pytest.mark.gpu) for shape in FULL_SIZE)], ids=str)
def test_values_and_gradients_are_those_of_float64(shape, num_class, dtype, device):
    tensors, restore = inputs(shape, num_class, dtype, device)
    upstream = torch.randn(shape[0], num_class + shape[2], shape[3]).to(device, dtype)
    oracle = run(reference, [t.detach().double().requires_grad_() for t in tensors], restore, upstream)
    floor = run(reference, tensors, restore, upstream)
    for actual, expected, torch_result in zip(run(decoder_assemble, tensors, restore, upstream), oracle, floor, strict=True):
        assert actual.dtype == torch_result.dtype
        assert_near(actual, expected, floor=torch_result)


def test_positions_in_float32_keep_the_output_in_float32(device):
    (tokens, mask_token, positions), restore = inputs((3, 4, 9, 24), 1, torch.bfloat16, device)
    positions = positions.detach().float()
    out = decoder_assemble(tokens, mask_token, positions, restore)
    assert out.dtype == torch.float32
    assert_near(out, reference(tokens.double(), mask_token.double(), positions.double(), restore))


def test_strided_inputs_give_the_result_of_contiguous_ones(device):
    (tokens, mask_token, positions), restore = inputs((3, 4, 9, 24), 1, torch.float32, device)
    strided = tokens.detach().transpose(0, 2).contiguous().transpose(0, 2)
    assert not strided.is_contiguous()
    assert torch.equal(
        decoder_assemble(strided, mask_token, positions, restore), decoder_assemble(tokens, mask_token, positions, restore)
    )


def test_an_empty_batch_gives_an_empty_output_and_no_gradient(device):
    tensors, restore = inputs((0, 4, 9, 24), 1, torch.float32, device)
    out = decoder_assemble(*tensors, restore)
    assert out.shape == (0, 10, 24)
    assert all(not grad.any() for grad in torch.autograd.grad(out.sum(), tensors))


def test_nan_propagates_to_its_own_token_only(device):
    (tokens, mask_token, positions), restore = inputs((3, 4, 9, 24), 1, torch.float32, device)
    tokens = tokens.detach().clone()
    tokens[1, 2, 3] = torch.nan
    out = decoder_assemble(tokens, mask_token, positions, restore)
    assert out.isnan().nonzero().tolist() == [[1, 1 + restore[1].tolist().index(1), 3]]


def test_the_op_is_well_registered(device):
    tensors, restore = inputs((3, 4, 9, 24), 1, torch.float32, device)
    torch.library.opcheck(torch.ops.xkd.decoder_assemble, (*tensors, restore))


def test_a_compiled_graph_gives_the_same(device):
    tensors, restore = inputs((3, 4, 9, 24), 1, torch.float32, device)
    upstream = torch.randn(3, 10, 24, device=device)
    compiled = torch.compile(decoder_assemble, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(
        run(compiled, tensors, restore, upstream), run(decoder_assemble, tensors, restore, upstream), strict=True
    ):
        assert torch.equal(actual, expected)
