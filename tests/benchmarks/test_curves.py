"""The curves of NDCG over seconds: the literal implementation's, and ALS's beside the gramian loss's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_a_curve_stops_after_patience_and_is_read_at_its_first_reach() -> None:
    from benchmarks.curves import Point, best, reached
    from benchmarks.literal_curve import PATIENCE, stopped

    values = [0.1, 0.3, *[0.2] * (PATIENCE - 1)]
    curve = [Point(float(second), value) for second, value in enumerate(values, start=1)]
    assert not stopped(curve)
    assert stopped([*curve, Point(99.0, 0.3)])
    assert best(curve) == 0.3
    assert reached(curve, 0.15) == 2.0
    assert reached(curve, 0.31) is None


def test_the_literal_training_stops_early_with_its_best_ndcg_known(tiny_prepared: Any) -> None:
    from benchmarks import ours
    from benchmarks.literal import LiteralSettings
    from benchmarks.literal_curve import PATIENCE, run_literal, stopped

    settings = LiteralSettings(id_dim=4, content_dim=4, negatives=5, batch_size=64, learning_rate=0.05)
    curve, ranked = run_literal(tiny_prepared, ours.literal_iid_ranking(tiny_prepared), settings, 60)
    values = [point.ndcg for point in curve]
    assert stopped(curve)
    assert len(curve) == len(ranked) == values.index(max(values)) + 1 + PATIENCE
    assert max(values) > values[0]


def test_a_stored_curve_is_replaced_by_a_longer_one_alone(
    tiny_prepared: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from benchmarks import literal_curve
    from benchmarks.literal import LiteralSettings

    def write(name: str, values: dict[str, object]) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(values))
        return path

    monkeypatch.setattr(literal_curve, "RESULTS", tmp_path)
    monkeypatch.setattr(literal_curve, "write_results", write)
    settings = LiteralSettings(id_dim=4, content_dim=4, negatives=5, batch_size=64, learning_rate=0.05)

    def curve(epochs: int, *, unfinished: bool = False) -> list[float]:
        return literal_curve.in_literal_settings(
            tiny_prepared, "tiny", settings, epochs, unfinished=unfinished
        )

    long = curve(4)
    assert len(long) == 4
    assert curve(2) == long[:2]  # trained again, as if it had been interrupted after two
    assert curve(2, unfinished=True) == long
    assert curve(5)[:4] == long
    assert len(curve(1, unfinished=True)) == 5


def test_als_and_the_gramian_loss_are_compared_where_both_have_been(
    tiny_prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import beside_als, ours
    from benchmarks.backbone import ALS_SETTINGS
    from benchmarks.curves import best, train_ours

    monkeypatch.setattr(beside_als, "ITERATIONS", (1, 2))
    monkeypatch.setattr(beside_als, "REPEATS", 1)
    small = ours.GRAMIAN.model_copy(update={"id_dim": 4, "content_dim": 4})
    whole = train_ours(tiny_prepared, small, ours.GRAMIAN_TRAINING)
    found = beside_als.beside_als(tiny_prepared, small, whole)
    curves = found["als"]
    assert isinstance(curves, dict)
    assert set(curves) == set(ALS_SETTINGS)
    assert all(len(curve) == 2 for curve in curves.values())
    assert found["ndcg"] == pytest.approx(min(best(whole), found["best_als_ndcg"]))  # type: ignore[call-overload]
    assert found["times_als"] == pytest.approx(found["gramian_seconds"] / found["als_seconds"])  # type: ignore[operator]
