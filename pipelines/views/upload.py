"""Puts what was drawn on the device that the views are on."""

import numpy as np
import torch


def upload(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array as a tensor. On a GPU it comes in the order of the current stream, and the host waits for nothing queued there.

    For a copy from pageable memory it would: for all of the step that is under way. torch keeps the pinned memory until it is read.
    """
    tensor = torch.from_numpy(array)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
