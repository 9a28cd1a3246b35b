"""What a figure was measured on: the machine, the versions, and how fast it multiplies matrices."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

import painvrl
from painvrl.core.wholefile import write_whole

RESULTS = Path(__file__).parent / "results"
# What this product reaches on this project's own two-core machine, float32. How fast the machine was that the
# reference was measured on is not known; scaling by this figure assumes that it was one like it.
ASSUMED_REFERENCE_GFLOPS = 182.0


def calibration_gflops(size: int = 2048, repeats: int = 8) -> float:
    """Billions of float32 operations a second of one square product, at the fastest of ``repeats``."""
    left, right = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def describe() -> dict[str, object]:
    """The machine as JSON-ready values."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "painvrl": painvrl.__version__,
        "load_average": round(os.getloadavg()[0], 2),  # well above ours, it says that the figures are no good
        "calibration_gflops": round(calibration_gflops(), 1),
    }


def write_results(
    name: str,
    results: Mapping[str, object],
    *,
    folder: Path = RESULTS,
    machine: Mapping[str, object] | None = None,
) -> Path:
    """Write ``results`` beside the machine's description as ``FOLDER/NAME.json``.

    ``machine``: what :func:`describe` said before, where the file is written more than once.
    """
    content = json.dumps({"machine": machine or describe(), **results}, indent=1) + "\n"
    return write_whole(folder / f"{name}.json", content, what="the results")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None
