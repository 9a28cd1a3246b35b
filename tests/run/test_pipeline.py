"""A run from its data to its metrics: repeatable, sealed, reported, and never silently diverged."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from painvrl.core.errors import Diverged
from painvrl.data.guard import GuardedParts
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import run, score_valid
from painvrl.run.prepare import prepare

if TYPE_CHECKING:
    from painvrl.data.interactions import Interactions
    from painvrl.data.parts import Part
    from painvrl.run.pipeline import RunResult
    from painvrl.run.prepare import Prepared

CPU = torch.device("cpu")
METRICS = ("recall", "ndcg", "precision", "hit_rate", "ndcg_invrl")


class Diary:
    """Writes down what a run reports."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.points: dict[str, list[tuple[int, dict[str, float]]]] = {}

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.points.setdefault(name, []).append((step, dict(values)))


def changed(settings: dict[str, Any], **sections: Any) -> TrainConfig:
    merged = dict(settings)
    for key, value in sections.items():
        merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    return TrainConfig.model_validate(merged)


def by_user(parts: Sequence[Interactions]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for part in parts:
        for user, item in zip(part.user.tolist(), part.item.tolist(), strict=True):
            found.setdefault(user, set()).add(item)
    return found


def slow_metrics(
    part: Part, hidden: Sequence[Interactions], users: np.ndarray, items: np.ndarray, ks: Sequence[int]
) -> dict[str, float]:
    """The part's metrics, user by user, from sorted lists."""
    wanted, hide = by_user([part.interactions]), by_user(hidden)
    candidates = part.candidates.nonzero(as_tuple=True)[0].tolist()
    rows: dict[str, list[float]] = {f"{metric}_at_{k}": [] for metric in METRICS for k in ks}
    for user, positives in wanted.items():
        scores = items @ users[user]
        ranked = sorted((i for i in candidates if i not in hide.get(user, set())), key=lambda i: -scores[i])
        for k in ks:
            hits = [i in positives for i in ranked[:k]]
            gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
            ideal = [sum(1 / math.log2(place + 2) for place in range(n)) for n in range(k + 1)]
            rows[f"recall_at_{k}"].append(sum(hits) / len(positives))
            rows[f"precision_at_{k}"].append(sum(hits) / k)
            rows[f"hit_rate_at_{k}"].append(float(any(hits)))
            rows[f"ndcg_at_{k}"].append(gain / ideal[min(k, len(positives))])
            rows[f"ndcg_invrl_at_{k}"].append(gain / ideal[sum(hits)] if any(hits) else 0.0)
    return {name: sum(values) / len(values) for name, values in rows.items()}


def test_equal_seeds_give_bitwise_equal_results(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    again = run(tiny_config, tiny_prepared)
    assert again.metrics == tiny_result.metrics
    assert torch.equal(again.user_vectors, tiny_result.user_vectors)
    assert torch.equal(again.item_vectors, tiny_result.item_vectors)
    assert torch.equal(again.mask, tiny_result.mask)
    assert again.rounds == tiny_result.rounds
    assert again.epochs == tiny_result.epochs


def test_data_prepared_anew_give_bitwise_equal_results(
    tiny_config: TrainConfig, tiny_result: RunResult, tmp_path: Path
) -> None:
    again = run(tiny_config, prepare(tiny_config, cache_dir=tmp_path, device=CPU))
    assert again.metrics == tiny_result.metrics


def test_another_seed_trains_another_model(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    other = run(tiny_config.model_copy(update={"seed": 1}), tiny_prepared)  # on the same split
    assert not torch.equal(other.user_vectors, tiny_result.user_vectors)
    assert other.metrics != tiny_result.metrics


def test_the_global_generator_plays_no_part(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    torch.manual_seed(123)
    assert run(tiny_config, tiny_prepared).metrics == tiny_result.metrics


def test_valid_metrics_equal_a_brute_force_of_the_returned_vectors(
    tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    split, ks = tiny_prepared.split, tiny_result.config.evaluation.ks
    users = tiny_result.user_vectors.double().numpy()
    items = tiny_result.item_vectors.double().numpy()
    expected = {}
    for name, part, other in (
        ("iid", split.iid_valid, split.ood_valid),
        ("ood", split.ood_valid, split.iid_valid),
    ):
        values = slow_metrics(part, [split.train, other.interactions], users, items, ks)
        expected |= {f"{name}/{metric}": value for metric, value in values.items()}
    assert tiny_result.metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert tiny_result.metrics[name] == pytest.approx(value, abs=1e-9), name
    assert min(tiny_result.metrics[f"{part}/recall_at_50"] for part in ("iid", "ood")) > 0


class Poison:
    """Test parts that may not even be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"a run asked the sealed test parts for {name}")


@pytest.mark.parametrize("kind", ["branch", "sum", "scalar", "item"])
def test_test_parts_stay_sealed_during_a_run(
    tiny_settings: dict[str, Any],
    tiny_prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    def opened(self: GuardedParts, *arguments: object, **more: object) -> None:
        raise AssertionError("a run opened the sealed test parts")

    monkeypatch.setattr(GuardedParts, "open", opened)
    poisoned = replace(tiny_prepared, split=replace(tiny_prepared.split, sealed=Poison()))
    config = changed(tiny_settings, fusion={"kind": kind}, mask={"steps": 2}, training={"max_epochs": 2})
    result = run(config, poisoned)
    score_valid(poisoned, result.parts, [config.fusion])
    run(config, poisoned, epochs=result.epochs)


def test_every_stage_is_reported_in_order(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    config, diary = changed(tiny_settings, rounds=2), Diary()
    result = run(config, tiny_prepared, observer=diary)
    assert diary.stages == [
        "pretrain",
        "calibrate",
        "round 1: environments",
        "round 1: mask",
        "round 2: environments",
        "round 2: mask",
        "invariant",
        "variant",
        "evaluate",
    ]
    assert set(result.seconds) == {
        "pretrain",
        "calibrate",
        "environments",
        "mask",
        "invariant",
        "variant",
        "evaluate",
    }
    assert all(value >= 0 for value in result.seconds.values())
    assert set(result.epochs) == set(diary.points) == {"pretrain", "invariant", "variant"}


def test_curves_show_loss_and_valid_metrics_and_hold_the_chosen_epoch(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    diary = Diary()
    run(tiny_config, tiny_prepared, observer=diary)
    for name, points in diary.points.items():
        epochs = [epoch for epoch, _ in points]
        assert epochs == [3 * (place + 1) for place in range(len(epochs))]
        watched = [values["iid/ndcg_at_20"] for _, values in points]
        assert all(math.isfinite(values["loss"]) for _, values in points)
        assert tiny_result.epochs[name] == epochs[int(np.argmax(watched))]
    # The branch is trained at full weight; the last model that is scored as it is, is the invariant one.
    invariant = run(
        tiny_config.model_copy(
            update={"fusion": tiny_config.fusion.model_copy(update={"kind": "invariant"})}
        ),
        tiny_prepared,
    )
    best = max(values["iid/ndcg_at_20"] for _, values in diary.points["invariant"])
    assert invariant.metrics["iid/ndcg_at_20"] == pytest.approx(best, abs=1e-12)


def test_a_run_of_fixed_epochs_trains_exactly_those(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    epochs, diary = {"pretrain": 7, "invariant": 4, "variant": 1}, Diary()
    result = run(tiny_config, tiny_prepared, observer=diary, epochs=epochs)
    assert result.epochs == epochs
    assert {name: points[-1][0] for name, points in diary.points.items()} == epochs
    assert result.metrics != tiny_result.metrics


def test_the_chosen_epochs_repeat_the_run(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    # Early stopping restores the state of the chosen epoch, so training just so long is the same.
    again = run(tiny_config, tiny_prepared, epochs=tiny_result.epochs)
    assert torch.equal(again.user_vectors, tiny_result.user_vectors)
    assert again.metrics == tiny_result.metrics


def test_the_sampled_loss_runs_every_stage(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    loss = {"kind": "sampled", "negatives": 10, "batch_size": 128}
    config = changed(tiny_settings, backbone={"loss": loss, "id_dropout": 0.3})
    first, again = run(config, tiny_prepared), run(config, tiny_prepared)
    assert first.metrics == again.metrics
    assert first.rounds[0].metrics["mask/risk"] > 0


def test_an_objective_that_explodes_is_a_divergence(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    with pytest.raises(Diverged, match=r"training\.learning_rate"):
        run(changed(tiny_settings, training={"learning_rate": 1e30}), tiny_prepared)
    with pytest.raises(Diverged, match=r"mask\.learning_rate"):
        run(changed(tiny_settings, mask={"learning_rate": 1e30}), tiny_prepared)


def test_vectors_that_are_not_finite_have_no_metrics(tiny_prepared: Prepared, tiny_result: RunResult) -> None:
    items = tiny_result.parts.items.clone()
    items[0, 0] = math.nan
    with pytest.raises(Diverged):
        score_valid(tiny_prepared, replace(tiny_result.parts, items=items), [tiny_result.config.fusion])


LETS_GO = """
import gc, json, sys, weakref
from pathlib import Path
import torch
from painvrl.core.observer import NullObserver
from painvrl.run import pipeline
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import prepare

tables, looked = [], []

def pretrained(*given, pretrain=pipeline.pretrain):
    model = pretrain(*given)
    tables.append(weakref.ref(model.user_id))
    return model

class Looks(NullObserver):
    def stage(self, name):
        if "environments" in name:
            gc.collect()  # whatever is left in a cycle is let go, too
            looked.append(tables[0]() is None)

pipeline.pretrain = pretrained
config = TrainConfig.model_validate(json.loads(sys.argv[1]))
pipeline.run(config, prepare(config, cache_dir=Path('cache'), device=torch.device("cpu")), observer=Looks())
assert len(tables) == 1 and looked and all(looked), (tables, looked)
"""


@pytest.mark.slow
def test_the_rounds_let_the_backbone_go(tiny_config: TrainConfig) -> None:
    # In a process of its own: once torch's compiler was used in one, some of its modules never go.
    command = [sys.executable, "-c", LETS_GO, tiny_config.model_dump_json()]
    subprocess.run(command, check=True)
