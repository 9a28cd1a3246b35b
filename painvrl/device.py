"""Which device a run computes on."""

from __future__ import annotations

import torch

from painvrl.errors import ConfigError


def select_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` takes the best one here: cuda, then mps, then cpu.

    Raises:
        ConfigError: an unknown name, or a device that this machine does not have.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind, _, index = name.partition(":")
    if kind not in available or (index and not index.isdecimal()):
        raise ConfigError("must be auto, cuda, cuda:N, mps or cpu", key="--device", value=name)
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not available[kind] or int(index or 0) >= count:
        raise ConfigError("this machine has no such device", key="--device", value=name)
    return torch.device(name)
