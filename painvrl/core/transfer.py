"""Moving tensors to a device without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; a copy to a CUDA device goes through pinned memory and is asynchronous.

    From memory that is not pinned the copy would wait until the driver has staged it. Other devices make no
    promise about the source's memory, so there the copy is a plain one.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return (tensor.pin_memory() if tensor.device.type == "cpu" else tensor).to(device, non_blocking=True)
