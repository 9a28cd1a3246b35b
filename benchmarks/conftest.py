"""What the timed benchmarks share: data of both sizes, the machine's description, and the ratios."""

from __future__ import annotations

import functools
import statistics
from typing import Any

import pytest

from benchmarks import machine, sizes
from painvrl.run.prepare import Prepared


@functools.cache
def data_of(size: str) -> Prepared:
    """A size's data, made once a session."""
    return sizes.build(size)


@pytest.fixture(params=["small", "large"])
def size(request: pytest.FixtureRequest) -> str:
    """Both sizes in turn."""
    name: str = request.param
    return name


@pytest.fixture
def data(size: str) -> Prepared:
    """The size's data."""
    return data_of(size)


def pytest_benchmark_generate_machine_info() -> dict[str, object]:
    """The machine in the words of all other results."""
    return machine.describe()


def pytest_benchmark_generate_commit_info() -> dict[str, object]:
    """Nothing: results are committed beside the code that they belong to."""
    return {}


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Drop the single timings, and put every ratio of a group to its literal member beside them.

    ``extra_info["times"]`` is how many such calls one unit of the group takes, an epoch for example.
    """
    groups: dict[str, dict[str, tuple[float, float]]] = {}
    calibrations = [output_json["machine_info"]["calibration_gflops"]]
    for entry in output_json["benchmarks"]:
        times = entry["extra_info"].get("times", 1)
        unit = (times * entry["stats"]["median"], times * entry["stats"]["min"])
        groups.setdefault(entry["group"], {})[entry["name"]] = unit
        entry["stats"].pop("data", None)
        if "calibration_gflops" in entry["extra_info"]:
            calibrations.append(entry["extra_info"]["calibration_gflops"])
    output_json["ratios"] = {
        group: _ratios(members) for group, members in groups.items() if _literal(members) is not None
    }
    output_json["calibration_gflops"] = round(statistics.median(calibrations), 1)
    for group, ratios in output_json["ratios"].items():
        print(f"\n{group}: literal over ours (medians, minima): {ratios}")


def _literal(members: dict[str, tuple[float, float]]) -> str | None:
    return next((name for name in members if "literal" in name), None)


def _ratios(members: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    slow = members[str(_literal(members))]
    return {
        name: (round(slow[0] / fast[0], 2), round(slow[1] / fast[1], 2))
        for name, fast in members.items()
        if name != _literal(members)
    }
