from __future__ import annotations

import torch

from painvrl.core.device import to_device


class Traced:
    """Stands for a tensor of ``kind``: no machine without CUDA can pin memory."""

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind)
        self.told: list[tuple[str, object]] = []

    def pin_memory(self) -> Traced:
        self.told.append(("pin", None))
        return self

    def to(self, device: torch.device, **named: object) -> Traced:
        self.told.append((device.type, named.get("non_blocking", False)))
        return self


def told(source: str, target: str) -> list[tuple[str, object]]:
    tensor = Traced(source)
    to_device(tensor, torch.device(target))  # type: ignore[arg-type]
    return tensor.told


def test_a_copy_to_cuda_is_pinned_and_nobody_waits_for_it() -> None:
    assert told("cpu", "cuda") == [("pin", None), ("cuda", True)]


def test_what_lies_on_cuda_needs_no_pinning() -> None:
    assert told("cuda", "cuda") == [("cuda", True)]


def test_copies_to_other_devices_are_plain() -> None:
    assert told("cpu", "mps") == [("mps", False)]
    tensor = torch.arange(3)
    assert to_device(tensor, torch.device("cpu")) is tensor
