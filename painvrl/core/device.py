"""Which device a run computes on, how tensors get there, and how much a run used of it."""

from __future__ import annotations

import functools
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from painvrl.core.errors import ConfigError

_MIB = 2**20

_FULL = ("DefaultCPUAllocator", "MPS backend out of memory", "bad_alloc", "Cannot allocate memory")
"""What libraries say in errors of a general kind: torch, MPS, C++ and the system."""


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
        rule = "this machine has no such device; --device auto takes the best one that there is"
        raise ConfigError(rule, key="--device", value=name)
    return torch.device(name)


def deal_devices(device: torch.device, processes: int) -> tuple[torch.device, ...]:
    """A device for each of ``processes``: ``cuda`` without a number deals out all CUDA devices in turn."""
    if str(device) != "cuda":
        return (device,) * processes
    count = torch.cuda.device_count()
    return tuple(torch.device("cuda", place % count) for place in range(processes))


def use_device(device: torch.device, memory_fraction: float | None = None) -> None:
    """Let this process compute on ``device``, and use no more than a fraction of a CUDA device's memory.

    Pinning memory opens the current CUDA device: it must be this one, and no other.

    Args:
        device: a CUDA device with its number, as :func:`deal_devices` gives it; or another kind.
        memory_fraction: ``None`` sets no limit.

    Raises:
        ConfigError: a limit for another kind of device, which knows none.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if memory_fraction is None:
        return
    if device.type != "cuda":
        raise ConfigError("only a CUDA device can be limited", key="--memory-fraction", value=device.type)
    torch.cuda.set_per_process_memory_fraction(memory_fraction, device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; a copy to a CUDA device goes through pinned memory and is asynchronous.

    From memory that is not pinned the copy would wait until the driver has staged it. Other devices make no
    promise about the source's memory, so there the copy is a plain one.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return (tensor.pin_memory() if tensor.device.type == "cpu" else tensor).to(device, non_blocking=True)


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that ``device`` has in all; ``None`` where no system tells."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if sys.platform == "win32":
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def reset_peak_memory(device: torch.device) -> None:
    """Begin to measure again: on CUDA, and elsewhere on Linux where the system lets a process do so.

    Where it does not, and on other systems, the peak of a process outside CUDA stays what it was.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # see proc_pid_clear_refs(5)


def peak_memory_mib(device: torch.device) -> float | None:
    """The most memory in use since :func:`reset_peak_memory`, in MiB; ``None`` where no system tells.

    On CUDA what tensors took of the device; elsewhere the resident set of the whole process, with what it
    held before: libraries, data, and what it keeps of earlier work. Where nothing was reset, since it began.
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / _MIB
    return _peak_resident_mib()


def rounding_of(device: torch.device) -> dict[str, object]:
    """What the last bits of a result depend on besides the settings, by its name; JSON-ready."""
    return {
        "device": device.type,
        "GPU": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        "processor": _processor(),
        "torch": str(torch.__version__),
        "CUDA": torch.version.cuda,
        "number of threads": torch.get_num_threads(),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "matmul precision": torch.get_float32_matmul_precision(),
    }


@functools.cache
def _processor() -> str:
    """The architecture and, where the system tells, the model of the CPU."""
    model = platform.processor()
    if sys.platform == "linux":
        with suppress(OSError):
            reported = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
            lines = (line.partition(":") for line in reported.splitlines())
            model = next((value.strip() for name, _, value in lines if name.strip() == "model name"), model)
    return f"{platform.machine()} {model}"


def _peak_resident_mib() -> float | None:
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":
        # `getrusage` would count the peak of the parent process, too, as a child inherits it.
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of a device is full."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    kinds = (RuntimeError, ValueError, OSError)
    return isinstance(error, kinds) and any(said in str(error) for said in _FULL)
