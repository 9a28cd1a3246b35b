"""Fronts of equal budgets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from painvrl.run.config import TrainConfig
    from painvrl.run.prepare import Prepared

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_a_hyperparameter_that_a_method_is_said_not_to_read_changes_nothing(
    tiny_config: TrainConfig, tiny_prepared: Prepared
) -> None:
    from benchmarks.fronts import UNREAD
    from painvrl.run.hyperparameters import apply
    from painvrl.run.pipeline import run
    from painvrl.run.presets import PRESETS
    from painvrl.study.file.spec import load_spec

    turned = {
        "environments.count": 3,
        "mask.sparsity": 0.8,
        "mask.irm_weight": 3.0,
        "fusion.variant_weight": 0.9,
    }
    space = load_spec(ROOT / "studies" / "movielens.yaml").space
    assert set(UNREAD) == set(PRESETS)
    for preset, prefixes in UNREAD.items():
        config = apply(tiny_config, PRESETS[preset])  # type: ignore[index]
        hyperparameters = [path for path in space.root if path.startswith(prefixes)]
        plain = run(config, tiny_prepared).metrics
        for path in hyperparameters:
            assert run(apply(config, {path: turned[path]}), tiny_prepared).metrics == plain, (preset, path)
        for path in turned.keys() - set(hyperparameters):
            assert run(apply(config, {path: turned[path]}), tiny_prepared).metrics != plain, (preset, path)


def test_only_the_seeds_that_were_asked_for_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.fronts import report
    from painvrl.run.presets import PRESETS

    kept = {
        "studies": [
            {"preset": preset, "seed": seed, "plane": [[0.1 * (seed + 1), 0.5]], "hypervolume": 0.0}
            for preset in PRESETS
            for seed in range(4)
        ]
    }
    report(kept, range(2, 4))
    out = capsys.readouterr().out
    assert "seeds 2 to 3" in out
    assert "| painvrl | 175.0000 ± 35.3553 | 0.3500 ± 0.0707 |" in out


def test_there_is_no_seed_below_zero(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import fronts

    monkeypatch.setattr(sys, "argv", ["fronts", "--first-seed", "-1"])
    with pytest.raises(SystemExit):
        fronts.main()
    assert "--first-seed: must be at least 0" in capsys.readouterr().err


def test_the_measures_of_a_front() -> None:
    from benchmarks.fronts import by_iid_alone, dominated_share, front_of, ood_that_keeps

    plane = [(0.3, 0.01), (0.2, 0.1), (0.1, 0.2), (0.15, 0.05)]
    assert front_of(plane) == plane[:3]
    assert by_iid_alone(plane) == (0.3, 0.01)
    assert ood_that_keeps(plane, 0.2) == 0.1
    assert ood_that_keeps(plane, 0.31) == 0.0
    assert dominated_share(plane, [(0.25, 0.15)]) == pytest.approx(1 / 3)
    assert dominated_share(plane, [(0.2, 0.1)]) == 0
