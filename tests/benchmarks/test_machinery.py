"""What the results are made of: random data, the machine, units, memory, counts of kernels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent


def test_random_data_have_the_asked_size_and_no_pair_twice() -> None:
    from benchmarks.sizes import random_dataset

    data = random_dataset(30, 40, 600, 3).interactions
    assert len(data) == len((data.user * 40 + data.item).unique()) == 600
    assert (data.n_users, data.n_items) == (30, 40)


def test_the_machine_is_described_and_its_description_is_json() -> None:
    from benchmarks.machine import calibration_gflops, describe

    described = json.loads(json.dumps(describe()))
    assert {"cpu", "cores", "threads", "torch", "calibration_gflops"} <= set(described)
    assert calibration_gflops(size=64, repeats=1) > 0


def test_ratios_are_of_units_and_only_where_a_literal_member_is() -> None:
    from benchmarks import conftest

    def entry(group: str, name: str, median: float, **extra: float) -> dict[str, Any]:
        stats = {"median": median, "min": median / 2, "data": [median]}
        return {"group": group, "name": name, "stats": stats, "extra_info": extra}

    output = {
        "machine_info": {"calibration_gflops": 100.0},
        "benchmarks": [
            entry("epoch", "bench_literal", 0.1, times=30, calibration_gflops=120.0),
            entry("epoch", "bench_ours", 1.5),
            entry("trial", "bench_trial", 2.0),
        ],
    }
    conftest.pytest_benchmark_update_json(output)
    assert output["ratios"] == {"epoch": {"bench_ours": (2.0, 2.0)}}
    assert output["calibration_gflops"] == 110.0
    assert all("data" not in one["stats"] for one in output["benchmarks"])  # type: ignore[index]


@pytest.mark.slow
def test_a_point_of_the_scaling_curves_reports_its_memory() -> None:
    from benchmarks.scaling import Point

    point = Point(users=300, items=200, interactions=6000, features=8)
    ballast = torch.ones(2**28)  # 1 GiB that the process which starts the point holds
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", *point.arguments()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = SimpleNamespace(**json.loads(done.stdout))
    assert measured.interactions == 6000
    assert measured.peak_mib >= measured.imports_mib > 0
    assert measured.peak_mib < ballast.nbytes / 2**20  # another process's memory is not its own
    assert {"index", "gramian epoch", "sampled epoch", "ranking", "environments"} <= set(measured.seconds)


def test_an_operator_of_many_kernels_is_counted_as_many() -> None:
    from benchmarks.steps import cost_of, index, meta
    from painvrl.model.pairs import Pairs, half_sums

    n_users, n_items, n_pairs, width = 5, 7, 11, 3
    pairs = Pairs(
        user=index(n_pairs),
        item=index(n_pairs),
        user_offsets=index(n_users + 1),
        item_offsets=index(n_items + 1),
        by_item=index(n_pairs),
        user_by_item=index(n_pairs),
    )
    cost = cost_of(lambda: half_sums(meta(n_pairs), meta(n_users, width), index(n_pairs), pairs))
    assert cost.flops == 2 * (2 * n_pairs * width)  # a bag for each half
    assert cost.kernels >= 8  # two gathers, a cast, 1 - share, two products, two bags, a stack
