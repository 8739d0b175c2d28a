import numpy as np
import pytest
import torch

from xkd.pipelines.loading.buffers import Buffers

CPU = torch.device("cpu")


def test_memory_is_used_again_once_no_tensor_refers_to_it():
    buffers = Buffers()
    address = buffers.empty((4, 5), CPU).data_ptr()
    assert buffers.empty((4, 5), CPU).data_ptr() == address


def test_memory_that_is_held_is_left_alone_even_through_a_view_of_it():
    buffers = Buffers()
    held = buffers.empty((4, 5), CPU).fill_(1)
    part = held.view(20)[3:7].detach()
    del held
    for _ in range(3):
        buffers.empty((4, 5), CPU).fill_(2)
    assert part.tolist() == [1] * 4
    address = part.data_ptr()
    del part
    assert buffers.empty((4, 5), CPU).data_ptr() <= address


def test_as_many_arrays_are_kept_as_were_held_at_once():
    buffers = Buffers()
    for _ in range(5):
        held = [buffers.empty((3,), CPU) for _ in range(2)]
        assert held[0].data_ptr() != held[1].data_ptr()
        del held
    addresses = set()
    for _ in range(10):
        tensor = buffers.empty((3,), CPU)
        addresses.add(tensor.data_ptr())
    assert len(addresses) <= 2


def test_tensors_are_float32_of_the_shape_and_outlive_the_buffers():
    tensor = Buffers().empty((2, 3), CPU).fill_(5)
    assert (tensor.shape, tensor.dtype) == ((2, 3), torch.float32)
    assert tensor.sum() == 30


@pytest.mark.parametrize("refer", [torch.Tensor.numpy, torch.Tensor.untyped_storage, torch.from_dlpack, np.asarray])
def test_memory_is_left_alone_in_whatever_way_it_is_referred_to(refer):
    buffers = Buffers()
    tensor = buffers.empty((4, 5), CPU)
    address, other = tensor.data_ptr(), refer(tensor)
    del tensor
    assert buffers.empty((4, 5), CPU).data_ptr() != address
    del other
    assert buffers.empty((4, 5), CPU).data_ptr() == address
