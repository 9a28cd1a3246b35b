"""One hyperparameter at a time."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_level_that_the_base_has_is_not_measured_twice() -> None:
    from benchmarks.one_at_a_time import HYPERPARAMETERS, other_levels
    from painvrl.study.file.spec import load_spec

    base = load_spec(ROOT / "studies" / "movielens.yaml").config.model_dump()
    assert base["mask"]["sparsity"] == 0.1
    assert other_levels("mask.sparsity", base) == (0.5, 0.9)
    for hyperparameter, levels in HYPERPARAMETERS.items():
        group, key = hyperparameter.split(".")
        assert set(other_levels(hyperparameter, base)) == set(levels) - {base[group][key]}
