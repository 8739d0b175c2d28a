"""random_mask in Triton: the torch reference's masks, bit by bit."""

from math import inf, nan

import pytest
import torch

from xkd.kernels.random_mask import Mask, random_mask, reference

SIZES = [(1, 2, 1), (3, 20, 5), (1, 33, 32)]  # B, N, K
FULL_SIZE = [(64, 392, 59), (64, 560, 112), (7, 1568, 235), (3, 4096, 600), (1024, 392, 59)]
DRAWS = [  # seed, stream, step, row0
    (0, 0, 0, 0),
    (3, 1, 11, 1),
    (-1, 1, 2**31, 10**6),
    (7 << 40, 2**32 - 1, 2**32 - 1, 2**32 - 3),
    (2**63 - 1, 0, 1, 2**31 + 5),
]


def on_the_cpu(seed, stream, step, row0, size, noise=None):
    return Mask(*reference(torch.tensor(seed), torch.tensor(step), noise, stream, row0, *size))


def assert_same(actual, expected):
    for name, one, other in zip(Mask._fields, actual, expected, strict=True):
        assert one.dtype == other.dtype, name
        assert torch.equal(one.cpu(), other), name


@pytest.mark.parametrize("draw", DRAWS, ids=str)
@pytest.mark.parametrize("size", [*SIZES, *(pytest.param(size, marks=pytest.mark.gpu) for size in FULL_SIZE)], ids=str)
def test_masks_are_those_of_the_cpu_to_the_last_bit(size, draw, device):
    seed, stream, step, row0 = draw
    assert_same(random_mask(seed, stream, step, row0, *size, device=device), on_the_cpu(*draw, size))
    held = (torch.tensor(value, device=device) for value in (seed, step))
    assert_same(random_mask(next(held), stream, next(held), row0, *size), on_the_cpu(*draw, size))


@pytest.mark.soak
@pytest.mark.parametrize("num_tokens", [392, 560, 1568, 4096])
def test_the_sizes_of_the_method_agree_too(num_tokens, device):
    size = (1, num_tokens, num_tokens // 7)
    assert_same(random_mask(5, 1, 9, 3, *size, device=device), on_the_cpu(5, 1, 9, 3, size))


@pytest.mark.gpu
def test_a_captured_graph_draws_for_the_step_that_its_tensor_then_holds(device):
    step, sizes = torch.zeros((), dtype=torch.int64, device=device), (2, 9, 4)
    random_mask(3, 0, step, 4, *sizes)  # compiles the kernel, which cannot be captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = random_mask(3, 0, step, 4, *sizes)
    for value in (5, 2**31):
        step.fill_(value)
        graph.replay()
        assert_same(captured, on_the_cpu(3, 0, value, 4, sizes))


@pytest.mark.parametrize("cut", [1, 4])
def test_a_batch_cut_over_ranks_draws_the_same_masks(cut, device):
    def draw(row0, batch):
        return [each.cpu() for each in random_mask(3, 0, 11, row0, batch, 20, 5, device=device)]

    assert_same([torch.cat(parts) for parts in zip(draw(6, cut), draw(6 + cut, 8 - cut), strict=True)], draw(6, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_noise_orders_the_tokens_as_torch_sorts_them(dtype, device):
    torch.manual_seed(0)
    noise = torch.randn(4, 21).mul(3).round().to(dtype)  # full of ties
    noise[1, ::2] = torch.tensor([0.0, -0.0, inf, -inf, nan, -nan, 1, -1, nan, -0.0, 0.0], dtype=dtype)
    noise[2] = nan
    noise[3] = -noise[3]
    strided = noise.to(device).T.contiguous().T
    mask = random_mask(0, 0, 0, 0, 4, 21, 8, noise=strided)
    assert_same(mask, on_the_cpu(0, 0, 0, 0, (4, 21, 8), noise))


def test_an_empty_batch_has_empty_masks(device):
    mask = random_mask(0, 0, 0, 0, 0, 9, 4, device=device)
    assert [tuple(each.shape) for each in mask] == [(0, 4), (0, 5), (0, 9), (0, 9)]


def test_more_tokens_than_a_program_sorts_are_refused_with_the_way_out(device):
    with pytest.raises(ValueError, match=r"random_mask: .*at most 4,096 tokens, not 4,097: set XKD_KERNELS=torch"):
        random_mask(0, 0, 0, 0, 1, 4097, 5, device=device)


@pytest.mark.parametrize("with_noise", [False, True])
def test_the_op_is_well_registered(with_noise, device):
    seed, step = (torch.tensor(value, device=device) for value in (3, 5))
    noise = torch.rand(2, 9, device=device) if with_noise else None
    torch.library.opcheck(torch.ops.xkd.random_mask, (seed, step, noise, 0, 4, 2, 9, 4))


def test_a_compiled_graph_draws_the_same_and_follows_the_step_it_is_given(device):
    def draw(step):
        return random_mask(3, 0, step, 4, 2, 9, 4)

    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    for step in (0, 1, 2):
        step = torch.tensor(step, device=device)
        assert_same(compiled(step), [each.cpu() for each in draw(step)])
