import numpy as np
import pytest
import torch

from xkd.pipelines.views.upload import upload


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_tensor_has_the_values_of_the_array(device):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = upload(array, torch.device(device))
    assert tensor.device.type == device
    assert tensor.tolist() == array.tolist()


@pytest.mark.gpu
def test_the_host_waits_for_nothing_and_the_memory_is_kept_until_it_is_read():
    torch.cuda._sleep(10**9)  # cycles: about half a second
    slept = torch.cuda.Event()
    slept.record()
    tensors = [upload(np.full(1000, value, np.float32), torch.device("cuda")) for value in range(100)]
    assert not slept.query()
    assert [float(tensor.mean()) for tensor in tensors] == list(range(100))
