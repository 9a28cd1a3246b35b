"""Means, paired intervals, tables, and one way to run a configuration."""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared, prepare

# Two-sided 95% quantiles of Student's t for 1 to 9 degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
CACHE = Path("workspace/cache")


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the nested ``change`` laid over it."""
    out = dict(base)
    for key, value in change.items():
        nested = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if nested else value
    return out


def config(base: dict[str, Any], *changes: dict[str, Any]) -> TrainConfig:
    """A validated configuration."""
    for change in changes:
        base = merged(base, change)
    return TrainConfig.model_validate(base)


def prepared(settings: TrainConfig) -> Prepared:
    """The configuration's data on the CPU."""
    return prepare(settings, cache_dir=CACHE, device=torch.device("cpu"))


def trained(settings: TrainConfig, data: Prepared | None = None) -> RunResult:
    """One run."""
    return run(settings, data or prepared(settings))


def mean_and_spread(values: Sequence[float]) -> str:
    """``0.1234 ± 0.0012``: mean and standard deviation over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {spread:.4f}"


def paired_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Mean of ``first - second`` over the same seeds, and its 95% t interval."""
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.mean(gaps)
    half = T95[len(gaps) - 2] * statistics.stdev(gaps) / math.sqrt(len(gaps))
    return mean, mean - half, mean + half


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table under what measured it."""
    print(f"\n### {title}\n")
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}\n"
    )
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
