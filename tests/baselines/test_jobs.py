from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from painvrl.baselines import jobs
from painvrl.baselines.comparison import compare
from painvrl.baselines.jobs import BaselineJob, key_of
from painvrl.baselines.offsets import GRID
from painvrl.baselines.popularity import POPULARITY
from painvrl.baselines.ridge import RIDGE, RidgeConfig
from painvrl.core.workspace import Workspace
from painvrl.engine.job import DataSummary
from painvrl.run.config import TrainConfig

CPU = torch.device("cpu")
DATA = DataSummary(fingerprint="d", all_seeds="a", numbers="n")


@pytest.fixture
def job(tiny_config: TrainConfig) -> BaselineJob:
    return BaselineJob(number=4, point={}, config=tiny_config, baseline=RIDGE, setting=RidgeConfig(), place=1)


def test_a_key_is_that_of_what_is_computed_alone(job: BaselineJob) -> None:
    again = replace(job, number=9, point={"x": 1}, place=3)
    assert key_of(again, replace(DATA, fingerprint="of another seed"), by_user=False) == key_of(
        job, DATA, by_user=False
    )


@pytest.mark.parametrize(
    "other",
    [
        lambda job: replace(job, setting=RidgeConfig(ridge=77.0)),
        lambda job: replace(job, baseline=replace(RIDGE, name="other")),
        lambda job: replace(job, config=job.config.model_copy(update={"seed": 5})),
        lambda job: replace(
            job,
            config=job.config.model_copy(
                update={"evaluation": job.config.evaluation.model_copy(update={"ks": (7,)})}
            ),
        ),
    ],
    ids=["setting", "baseline", "seed", "cut-offs"],
)
def test_another_job_has_another_key(job: BaselineJob, other: Callable[[BaselineJob], BaselineJob]) -> None:
    assert key_of(other(job), DATA, by_user=False) != key_of(job, DATA, by_user=False)


@pytest.mark.parametrize("change", [{"all_seeds": "b"}, {"numbers": "of other code"}])
def test_other_data_and_other_code_have_other_keys(job: BaselineJob, change: dict[str, str]) -> None:
    assert key_of(job, replace(DATA, **change), by_user=False) != key_of(job, DATA, by_user=False)


def test_a_run_without_its_users_is_none_with_them(job: BaselineJob) -> None:
    assert key_of(job, DATA, by_user=True) != key_of(job, DATA, by_user=False)


def test_other_offsets_and_other_packages_have_other_keys(
    job: BaselineJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(job, DATA, by_user=False)
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "GRID", GRID[:-1])
        assert key_of(job, DATA, by_user=False) != key
    for package in ("numpy", "scipy"):
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "version", lambda name, package=package: "9" if name == package else "1")
            first = key_of(job, DATA, by_user=False)
            patch.setattr(jobs, "version", lambda name: "1")
            assert key_of(job, DATA, by_user=False) != first


def test_the_package_of_a_module_may_have_another_name_or_none(
    job: BaselineJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job, baseline=replace(RIDGE, modules=("yaml", "no_such_module")))
    key = key_of(job, DATA, by_user=False)
    monkeypatch.setattr(jobs, "version", lambda name: "9" if name.lower() == "pyyaml" else "1")
    assert key_of(job, DATA, by_user=False) != key


def test_a_baseline_of_another_package_is_fitted_again_when_its_code_changed(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fitted(sign: str) -> Any:
        path = tmp_path / "others_baseline.py"
        path.write_text(
            "from painvrl.baselines.popularity import popularity\n"
            "from painvrl.baselines.port import vectors\n"
            "def start(inputs):\n"
            "    ones = inputs.item_degree[:, None] * 0 + 1\n"
            f"    items = {sign}inputs.item_degree[:, None]\n"
            "    users = ones.new_ones(inputs.prepared.train.n_users, 1)\n"
            "    return lambda _: vectors(inputs, users, items)\n",
            encoding="utf-8",
        )
        found = importlib.util.spec_from_file_location("others_baseline", path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        monkeypatch.setitem(sys.modules, "others_baseline", module)
        found.loader.exec_module(module)
        import linecache

        linecache.checkcache()
        others = replace(POPULARITY, name="others", start=module.start)
        return compare(tiny_config, [others], Workspace(tmp_path / "w"), CPU, seeds=1, trials=1)

    first, other = fitted("+"), fitted("-")
    assert first.baselines[0].points != other.baselines[0].points
    assert fitted("-").baselines[0].points == other.baselines[0].points


def test_a_call_with_the_own_model_after_one_without_has_the_users_of_both(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    def go(*, own: bool) -> Any:
        return compare(tiny_config, [RIDGE], Workspace(tmp_path), CPU, seeds=2, trials=2, own=own)

    plain, both = go(own=False), go(own=True)
    assert both.comparisons
    for before, after in zip(plain.baselines[0].points, both.baselines[1].points, strict=True):
        assert [run.metrics for run in before.runs] == [run.metrics for run in after.runs]


def test_a_run_is_called_as_the_table_calls_it(job: BaselineJob) -> None:
    assert (job.number, job.trial, job.run_name) == (4, 1, f"ridge-1-seed-{job.config.seed}")
