"""The kernels run where the tensors are, whatever device is the current one."""

import pytest
import torch

from xkd.benchmarks.kernel_cases import CASES, OPS, forward_and_backward, tensors


@pytest.mark.gpu
@pytest.mark.parametrize("op", OPS)
def test_on_a_second_gpu_results_are_those_of_the_first(op):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    (case, *_) = (case for case in CASES if case.op == op)
    first, second = (case.make(2, torch.float32, device) for device in ("cuda:0", "cuda:1"))
    for left, right in zip(tensors(first), tensors(second), strict=True):
        right.detach().copy_(left)
    assert torch.cuda.current_device() == 0
    found, expected = (forward_and_backward(case.function, arguments) for arguments in (second, first))
    for one, other in zip((*tensors(found[0]), *found[1]), (*tensors(expected[0]), *expected[1]), strict=True):
        assert one.device == torch.device("cuda:1")
        assert torch.equal(one.cpu(), other.cpu())
