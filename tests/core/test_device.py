from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
import torch

from painvrl.core import device as module
from painvrl.core.device import (
    deal_devices,
    is_out_of_memory,
    peak_memory_mib,
    reset_peak_memory,
    rounding_of,
    select_device,
    to_device,
    use_device,
)
from painvrl.core.errors import ConfigError


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if cuda else 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "best"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_best_device_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, best: str
) -> None:
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert select_device("auto") == torch.device(best)
    assert select_device() == torch.device(best)


def test_a_named_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=True, mps=True)
    assert select_device("cpu") == torch.device("cpu")
    assert select_device("mps") == torch.device("mps")
    assert select_device("cuda") == torch.device("cuda")
    assert select_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine(monkeypatch, cuda=False, mps=False)
    with pytest.raises(ConfigError, match="--device: this machine has no such device") as error:
        select_device(name)
    assert error.value.value == name


@pytest.mark.parametrize("name", ["gpu", "", "tpu:0", "CPU", "meta", "cpu:x", "cuda:x", "cuda:-1"])
def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine(monkeypatch, cuda=True, mps=True)
    with pytest.raises(ConfigError, match="must be auto, cuda") as error:
        select_device(name)
    assert error.value.key == "--device"


@pytest.mark.parametrize("name", ["cuda:2", "cuda:7", "mps:1", "cpu:1"])
def test_a_number_beyond_the_devices_of_the_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    machine(monkeypatch, cuda=True, mps=True)
    with pytest.raises(ConfigError, match="--device: this machine has no such device") as error:
        select_device(name)
    assert error.value.value == name


def test_cuda_without_a_number_is_dealt_out_and_a_named_device_is_everybodys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, cuda=True, mps=True)
    assert deal_devices(torch.device("cuda"), 1) == (torch.device("cuda", 0),)
    dealt = deal_devices(torch.device("cuda"), 3)
    assert dealt == (torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cuda", 0))
    assert deal_devices(torch.device("cuda", 1), 2) == (torch.device("cuda", 1),) * 2
    assert deal_devices(torch.device("cuda", 0), 2) == (torch.device("cuda", 0),) * 2
    assert deal_devices(torch.device("cpu"), 2) == (torch.device("cpu"),) * 2


def test_a_process_uses_its_cuda_device_within_its_limit_and_no_other_kind_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current, limits = [], []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *reported: limits.append(reported)
    )
    use_device(torch.device("cuda", 1))
    assert (current, limits) == ([torch.device("cuda", 1)], [])
    use_device(torch.device("cuda", 0), 0.4)
    assert current == [torch.device("cuda", 1), torch.device("cuda", 0)]
    assert limits == [(0.4, torch.device("cuda", 0))]
    use_device(torch.device("cpu"))
    assert len(current) == 2
    with pytest.raises(ConfigError, match="--memory-fraction: only a CUDA device"):
        use_device(torch.device("cpu"), 0.4)


def test_the_rounding_hangs_on_the_processor_and_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def reported() -> str:
        module._processor.cache_clear()
        return str(rounding_of(torch.device("cpu")))

    known = {reported()}
    with monkeypatch.context() as patch:
        patch.setattr(torch.version, "cuda", "99.9")
        known.add(reported())
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "another")
        known.add(reported())
    assert len(known) == 3
    assert reported() in known


def test_the_peak_of_a_cuda_device_is_its_tensors_since_the_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = {"bytes": 7 * 2**20}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak["bytes"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.update(bytes=0))
    device = torch.device("cuda", 0)
    assert peak_memory_mib(device) == 7.0
    reset_peak_memory(device)
    assert peak_memory_mib(device) == 0.0


def test_the_peak_on_the_cpu_is_the_processs_and_grows_with_what_it_holds() -> None:
    cpu = torch.device("cpu")
    before = peak_memory_mib(cpu)
    held = torch.ones(int(before or 0) + 64, 2**18)  # a MiB a row, more than was ever held
    after = peak_memory_mib(cpu)
    assert before is not None
    assert after is not None
    assert 50 < before < after
    assert after >= held.nbytes / 2**20
    del held
    assert (peak_memory_mib(cpu) or 0) > after - 8, "the kernel counts in batches"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak")
def test_the_peak_on_the_cpu_begins_anew_at_the_reset() -> None:
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory_mib(cpu) or 0.0
    large = torch.ones(512, 2**18)
    high = peak_memory_mib(cpu) or 0.0
    del large
    reset_peak_memory(cpu)
    assert high > before + 500
    assert (peak_memory_mib(cpu) or 0.0) < before + 100


def test_a_system_that_lets_nobody_reset_the_peak_takes_no_trial_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)
    reset_peak_memory(torch.device("cpu"))


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_full_memory_is_reported_from_other_errors(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)  # a plain RuntimeError, on the CPU
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert not is_out_of_memory(RuntimeError("a bug"))
    assert not is_out_of_memory(KeyError("DefaultCPUAllocator"))


class Copied:
    """Stands for a tensor of ``kind``: no machine without CUDA can pin memory."""

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind)
        self.reported: list[tuple[str, object]] = []

    def pin_memory(self) -> Copied:
        self.reported.append(("pin", None))
        return self

    def to(self, device: torch.device, **named: object) -> Copied:
        self.reported.append((device.type, named.get("non_blocking", False)))
        return self


def copies(source: str, target: str) -> list[tuple[str, object]]:
    tensor = Copied(source)
    to_device(tensor, torch.device(target))  # type: ignore[arg-type]
    return tensor.reported


def test_a_copy_to_cuda_is_pinned_and_nobody_waits_for_it() -> None:
    assert copies("cpu", "cuda") == [("pin", None), ("cuda", True)]


def test_what_lies_on_cuda_needs_no_pinning() -> None:
    assert copies("cuda", "cuda") == [("cuda", True)]


def test_copies_to_other_devices_are_plain() -> None:
    assert copies("cpu", "mps") == [("mps", False)]
    tensor = torch.arange(3)
    assert to_device(tensor, torch.device("cpu")) is tensor
