"""What fixing hyperparameters costs a front: its pieces on fronts that are known."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

GRID = [
    (("mask.irm_weight", weight), ("mask.sparsity", sparsity))
    for weight, sparsity in itertools.product(("1", "30"), ("0", "0.25"))
]
MEANS = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 0.5], [0.5, 2.0]])


def test_the_best_fixed_value_is_that_whose_own_front_is_worth_most() -> None:
    from benchmarks.moved_front import best_fixed

    assert best_fixed(GRID, MEANS, ["mask.irm_weight"]) == (("mask.irm_weight", "1"),)
    better = MEANS + np.array([[0, 0], [0, 1], [0, 0], [0, 0]])
    assert best_fixed(GRID, better, [p for p, _ in GRID[0]]) == GRID[1]


def test_hyperparameters_that_change_together_are_told_once() -> None:
    from benchmarks.moved_front import varied_in

    twins = [(("a", one), ("b", one), ("c", "same"), ("d", other)) for one, other in ("xz", "yz", "xw")]
    assert varied_in(twins) == ["a", "d"]


def test_shares_of_variance_of_effects_that_add_up_are_theirs() -> None:
    from benchmarks.moved_front import share_of_variance

    values = np.array([0.0, 1.0, 3.0, 4.0])  # 3 by the weight, 1 by the sparsity
    assert share_of_variance(GRID, values, "mask.irm_weight") == pytest.approx(0.9)
    assert share_of_variance(GRID, values, "mask.sparsity") == pytest.approx(0.1)


def kept_in(folder: Path, means_of: dict[int, np.ndarray]) -> None:
    """Trainings of the grid under seeds; OOD has more items than IID."""
    from benchmarks.invariance import Gains, Kept

    kept = Kept(folder / "wrong-text-0")
    rng = np.random.default_rng(0)
    for seed, means in means_of.items():
        user = np.repeat(np.arange(40), 3)
        items = {"iid": rng.integers(30, size=120), "ood": rng.integers(50, size=120)}
        for place, ((_, weight), (_, sparsity)) in enumerate(GRID):
            gains = {
                part: Gains(user=user, item=item, gain=np.full(120, means[place, at] / 10, np.float32))
                for at, (part, item) in enumerate(items.items())
            }
            change = {"mask": {"irm_weight": weight, "sparsity": sparsity}}
            kept.store(f"valid-{seed}-{place}", {"arm": "known", "seed": seed, "change": change}, gains)


def test_what_was_chosen_on_the_first_seeds_is_measured_on_fresh_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import moved_front

    fresh = np.array([[3.0, 1.0], [2.0, 4.0], [9.0, 9.0], [0.5, 2.0]])  # of what was not chosen most of all
    kept_in(tmp_path, {0: MEANS, 1: MEANS, 10: fresh, 11: fresh})
    monkeypatch.setattr(sys, "argv", ["moved_front", "--keep", str(tmp_path), "--draws", "50"])
    moved_front.main()
    written = json.loads((tmp_path / "moved-front-wrong-text-0.json").read_text())
    loses = {row["fixed"]: row["loses"][0] for row in written["fixed"]}
    # The frozen front is (3, 1) and (2, 4), worth 9. Of its points the first one, alone, is worth 3.
    assert loses["mask.irm_weight, mask.sparsity"] == pytest.approx(6 / 9)
    assert loses["mask.sparsity"] == pytest.approx(6 / 9)
    assert loses["mask.irm_weight"] == pytest.approx(0.0)
    assert "+66.7%" in capsys.readouterr().out


def test_both_parts_of_a_draw_have_the_same_seeds_and_users(tmp_path: Path) -> None:
    from benchmarks.invariance import Kept
    from benchmarks.moved_front import means_of, settings_of

    kept_in(tmp_path, {seed: np.full((4, 2), float(seed + 1)) for seed in range(6)})
    kept = Kept(tmp_path / "wrong-text-0")
    keys = list(settings_of(kept, ["known"]).values())
    iid, ood = means_of(kept, keys, range(6), 400)[1:, 0].T
    assert np.corrcoef(iid, ood)[0, 1] > 0.8  # items are drawn for each part
