from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from painvrl.config import TrainConfig
from painvrl.data.seal import SealedParts
from painvrl.errors import ConfigError, Diverged, EmptyEnvironment
from painvrl.pipeline import run, score_valid, with_popularity_weight, with_variant_weight
from painvrl.prepare import prepare
from painvrl.stages import Stages, train_backbone

if TYPE_CHECKING:
    from painvrl.data.interactions import Interactions
    from painvrl.data.parts import Part
    from painvrl.pipeline import RunResult
    from painvrl.prepare import Prepared

CPU = torch.device("cpu")
METRICS = ("recall", "ndcg", "precision", "hit_rate", "ndcg_legacy")


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
            rows[f"ndcg_legacy_at_{k}"].append(gain / ideal[sum(hits)] if any(hits) else 0.0)
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
    def opened(self: SealedParts, *arguments: object, **more: object) -> None:
        raise AssertionError("a run opened the sealed test parts")

    monkeypatch.setattr(SealedParts, "open", opened)
    poisoned = replace(tiny_prepared, split=replace(tiny_prepared.split, sealed=Poison()))
    config = changed(tiny_settings, fusion={"kind": kind}, mask={"steps": 2}, training={"max_epochs": 2})
    result = run(config, poisoned)
    score_valid(poisoned, result.user_vectors, result.item_vectors)
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


def test_rounds_report_what_was_learned(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    config = changed(tiny_settings, rounds=3, mask={"sparsity": 0.4})
    result = run(config, tiny_prepared)
    assert len(result.rounds) == 3
    n_pairs = len(tiny_prepared.split.train)
    for report in result.rounds:
        assert sum(report.environment_sizes) == n_pairs
        assert len(report.environment_sizes) == 2
        assert report.achieved_sparsity == pytest.approx(0.4)
        assert report.risk > 0
        assert 0 <= report.epsilon <= 1
        assert -1 - 1e-6 <= report.cosine <= 1 + 1e-6
        assert report.converged == (report.moved_share <= 0.01)
    assert result.rounds[0].moved_share == 1.0
    assert int((result.mask == 0).sum()) == 4
    assert result.rounds[-1].mask_density == pytest.approx(float(result.mask.mean()))
    assert result.environments is not None
    assert result.environments.sizes == result.rounds[-1].environment_sizes


@pytest.mark.parametrize(("source", "value"), [("ones", 1.0), ("half", 0.5)])
def test_a_fixed_mask_needs_no_environments(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, source: str, value: float
) -> None:
    diary = Diary()
    result = run(
        changed(tiny_settings, mask={"source": source}, fusion={"kind": "invariant"}),
        tiny_prepared,
        observer=diary,
    )
    assert result.mask.tolist() == [value] * 10
    assert result.environments is None
    assert result.rounds == ()
    assert diary.stages == ["invariant", "evaluate"]


def test_the_given_mask_is_the_planted_truth(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    result = run(changed(tiny_settings, mask={"source": "given"}), tiny_prepared)
    assert result.mask.tolist() == [1.0] * 4 + [0.0] * 6


def test_a_closed_feature_reaches_the_branch_alone(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    features = tiny_prepared.features.matrix.clone()
    features[:, 4:] = torch.randn(features[:, 4:].shape, generator=torch.Generator().manual_seed(0))
    other = replace(tiny_prepared, features=replace(tiny_prepared.features, matrix=features))
    config = changed(tiny_settings, mask={"source": "given"})
    epochs = {"invariant": 5, "variant": 5}
    first, second = (run(config, prepared, epochs=epochs) for prepared in (tiny_prepared, other))
    width = first.base_width
    assert torch.equal(first.item_vectors[:, :width], second.item_vectors[:, :width])
    assert not torch.equal(first.item_vectors[:, width:], second.item_vectors[:, width:])


def test_an_open_feature_reaches_the_invariant_model_alone(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    # The branch's item vectors are a linear map of the closed features, whatever its base scores.
    features = tiny_prepared.features.matrix
    result = run(changed(tiny_settings, mask={"source": "given"}), tiny_prepared)
    branch = result.item_vectors[:, result.base_width :]
    centred, closed = branch - branch.mean(0), features[:, 4:] - features[:, 4:].mean(0)
    fitted = closed @ torch.linalg.lstsq(closed, centred).solution
    torch.testing.assert_close(fitted, centred, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["sum", "scalar"])
def test_a_sum_sees_all_features_whatever_the_mask(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, kind: str
) -> None:
    result = run(changed(tiny_settings, mask={"source": "given"}, fusion={"kind": kind}), tiny_prepared)
    content = result.item_vectors[:, 4:]
    for columns, explains in ((slice(0, 4), False), (slice(4, 10), False), (slice(0, 10), True)):
        features = tiny_prepared.features.matrix[:, columns]
        features = features - features.mean(0)
        centred = content - content.mean(0)
        left = centred - features @ torch.linalg.lstsq(features, centred).solution
        assert (float(left.abs().max()) < 1e-4) == explains


@pytest.mark.parametrize("loss", ["gramian", "sampled"])
@pytest.mark.parametrize("kind", ["scalar", "item"])
def test_a_learned_fusion_is_one_training_on_both_parts(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, kind: str, loss: str
) -> None:
    backbone = {"id_dim": 4, "content_dim": 4, "loss": {"kind": loss}}
    config = changed(tiny_settings, mask={"source": "given"}, fusion={"kind": kind}, backbone=backbone)
    diary = Diary()
    result = run(config, tiny_prepared, observer=diary)
    assert diary.stages == [kind, "evaluate"]
    assert set(result.epochs) == {kind}
    assert result.base_width == result.user_vectors.shape[1] == 8
    again = run(config, tiny_prepared, epochs=result.epochs)
    assert torch.equal(again.item_vectors, result.item_vectors)
    stages = Stages(config=config, prepared=tiny_prepared, observer=Diary(), fixed_epochs=None)
    both = torch.cat([result.mask, 1 - result.mask])
    for mixing, same in (("sum", False), (kind, True)):
        model = train_backbone(stages, kind, both, mixing=mixing)  # type: ignore[arg-type]
        assert torch.equal(model.item_vectors(), result.item_vectors) is same


def test_the_truth_of_other_data_is_not_known(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    nameless = replace(tiny_prepared, dataset=replace(tiny_prepared.dataset, truth=None))
    with pytest.raises(ConfigError, match=r"mask\.source: only planted data knows the true mask"):
        run(changed(tiny_settings, mask={"source": "given"}), nameless)
    config = changed(tiny_settings, environments={"assignment": "given"})
    with pytest.raises(ConfigError, match=r"environments\.assignment: only planted data knows"):
        run(config, nameless)


def test_given_environments_are_those_that_drew_each_training_pair(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    result = run(changed(tiny_settings, environments={"assignment": "given"}), tiny_prepared)
    everything, truth = tiny_prepared.dataset.interactions, tiny_prepared.dataset.truth
    assert truth is not None
    assert result.environments is not None
    drew = dict(
        zip(
            zip(everything.user.tolist(), everything.item.tolist(), strict=True),
            truth.environment.tolist(),
            strict=True,
        )
    )
    train = tiny_prepared.split.train
    pairs = sorted(zip(train.user.tolist(), train.item.tolist(), strict=True))
    assert result.environments.label.tolist() == [drew[pair] for pair in pairs]


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


def test_a_branch_adds_columns_behind_the_invariant_model(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    invariant = run(changed(tiny_config.model_dump(), fusion={"kind": "invariant"}), tiny_prepared)
    width = invariant.user_vectors.shape[1]
    assert tiny_result.base_width == invariant.base_width == width == 8
    assert tiny_result.user_vectors.shape[1] == width + 4  # the branch has a content part alone
    assert torch.equal(tiny_result.user_vectors[:, :width], invariant.user_vectors)
    assert torch.equal(tiny_result.item_vectors[:, :width], invariant.item_vectors)


def test_scores_are_linear_in_the_variant_weight(tiny_prepared: Prepared, tiny_result: RunResult) -> None:
    def scores(weight: float) -> torch.Tensor:
        result = with_variant_weight(tiny_result, tiny_prepared, weight)
        return result.user_vectors.double() @ result.item_vectors.double().T

    nothing, everything = scores(0.0), scores(1.0)
    assert float((everything - nothing).abs().max()) > 0.01
    for weight in (0.25, 0.5, 0.9):
        torch.testing.assert_close(
            scores(weight), (1 - weight) * nothing + weight * everything, atol=1e-6, rtol=0
        )


def test_variant_weight_zero_is_the_invariant_model(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    zero = with_variant_weight(tiny_result, tiny_prepared, 0.0)
    invariant = run(changed(tiny_config.model_dump(), fusion={"kind": "invariant"}), tiny_prepared)
    torch.testing.assert_close(
        zero.user_vectors @ zero.item_vectors.T, invariant.user_vectors @ invariant.item_vectors.T
    )
    assert zero.metrics == pytest.approx(invariant.metrics, abs=1e-9)
    untrained = run(changed(tiny_config.model_dump(), fusion={"variant_weight": 0.0}), tiny_prepared)
    assert untrained.metrics == invariant.metrics
    assert "variant" not in untrained.epochs


def test_weighing_anew_equals_training_with_that_weight(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    anew = with_variant_weight(tiny_result, tiny_prepared, 0.8)
    trained = run(changed(tiny_config.model_dump(), fusion={"variant_weight": 0.8}), tiny_prepared)
    torch.testing.assert_close(anew.item_vectors, trained.item_vectors)
    assert anew.metrics == pytest.approx(trained.metrics, abs=1e-9)
    assert anew.config == trained.config


@pytest.mark.parametrize("fusion", [{"variant_weight": 0.7}, {"kind": "invariant"}, {"kind": "sum"}])
def test_the_weight_of_popularity_adds_its_logarithm_to_every_score(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, fusion: dict[str, Any]
) -> None:
    settings = {"mask": {"source": "half"}}
    without = run(changed(tiny_settings, **settings, fusion=fusion), tiny_prepared)
    result = run(
        changed(tiny_settings, **settings, fusion={**fusion, "popularity_weight": -0.3}), tiny_prepared
    )
    degree = torch.bincount(tiny_prepared.train.item, minlength=tiny_prepared.train.n_items)
    expected = without.user_vectors @ without.item_vectors.T - 0.3 * torch.log(1 + degree.float())
    torch.testing.assert_close(result.user_vectors @ result.item_vectors.T, expected, rtol=1e-5, atol=1e-5)
    assert result.epochs == without.epochs, "nothing is trained by it"
    assert result.metrics != without.metrics


def test_a_branch_is_weighed_anew_without_its_popularity(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    def trained(variant_weight: float) -> RunResult:
        fusion = {"variant_weight": variant_weight, "popularity_weight": -0.3}
        return run(changed(tiny_settings, fusion=fusion), tiny_prepared)

    anew, expected = with_variant_weight(trained(0.7), tiny_prepared, 0.2), trained(0.2)
    assert anew.config == expected.config
    assert anew.base_width == expected.base_width
    torch.testing.assert_close(anew.item_vectors, expected.item_vectors)


@pytest.mark.parametrize(("trained_with", "scored_with"), [(0.0, -0.3), (-0.3, 0.2), (-0.3, 0.0), (0.0, 0.0)])
def test_another_weight_of_popularity_needs_no_training(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, trained_with: float, scored_with: float
) -> None:
    def trained(weight: float) -> RunResult:
        fusion = {"variant_weight": 0.7, "popularity_weight": weight}
        return run(changed(tiny_settings, fusion=fusion), tiny_prepared)

    anew = with_popularity_weight(trained(trained_with), tiny_prepared, scored_with)
    expected = trained(scored_with)
    assert anew.config == expected.config
    assert anew.base_width == expected.base_width
    assert torch.equal(anew.user_vectors, expected.user_vectors)
    assert torch.equal(anew.item_vectors, expected.item_vectors)
    assert anew.metrics == expected.metrics
    weighed = with_variant_weight(anew, tiny_prepared, 0.2)
    torch.testing.assert_close(
        weighed.item_vectors, with_variant_weight(expected, tiny_prepared, 0.2).item_vectors
    )


def test_only_a_trained_branch_can_be_weighed_anew(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    for fusion in ({"kind": "invariant"}, {"variant_weight": 0.0}, {"kind": "sum"}):
        result = run(changed(tiny_config.model_dump(), fusion=fusion, mask={"source": "half"}), tiny_prepared)
        with pytest.raises(ConfigError, match=r"fusion\.variant_weight"):
            with_variant_weight(result, tiny_prepared, 0.5)


@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan])
def test_a_weight_that_no_configuration_can_hold_is_refused(
    tiny_prepared: Prepared, tiny_result: RunResult, weight: float
) -> None:
    with pytest.raises((ValidationError, ConfigError), match="variant_weight"):
        with_variant_weight(tiny_result, tiny_prepared, weight)


def test_a_sum_trains_one_model_on_both_parts(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    diary = Diary()
    config = changed(tiny_settings, mask={"source": "given"}, fusion={"kind": "sum"})
    result = run(config, tiny_prepared, observer=diary)
    assert diary.stages == ["sum", "evaluate"]
    assert result.base_width == result.user_vectors.shape[1] == 8


def test_the_sampled_loss_runs_every_stage(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    loss = {"kind": "sampled", "negatives": 10, "batch_size": 128}
    config = changed(tiny_settings, backbone={"loss": loss, "id_dropout": 0.3})
    first, again = run(config, tiny_prepared), run(config, tiny_prepared)
    assert first.metrics == again.metrics
    assert first.rounds[0].risk > 0


def test_an_objective_that_explodes_is_a_divergence(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    with pytest.raises(Diverged, match=r"training\.learning_rate"):
        run(changed(tiny_settings, training={"learning_rate": 1e30}), tiny_prepared)
    with pytest.raises(Diverged, match=r"mask\.learning_rate"):
        run(changed(tiny_settings, mask={"learning_rate": 1e30}), tiny_prepared)


def test_vectors_that_are_not_finite_have_no_metrics(tiny_prepared: Prepared, tiny_result: RunResult) -> None:
    broken = tiny_result.item_vectors.clone()
    broken[0, 0] = math.nan
    with pytest.raises(Diverged):
        score_valid(tiny_prepared, tiny_result.user_vectors, broken)


def test_too_many_environments_for_the_data_are_a_failed_trial(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    data = tiny_settings["data"] | {"n_users": 8, "interactions_per_environment": 2}
    config = changed(
        tiny_settings, data=data, split={"iid_share": 0.2}, environments={"count": 50, "min_share": 0.0}
    )
    with pytest.raises(EmptyEnvironment, match=r"environments\.count"):
        run(config, prepare(config, cache_dir=tmp_path, device=CPU))


def test_each_round_sees_the_variant_part_that_the_last_mask_left(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl import rounds

    seen, masks = [], []
    identify, learn_mask = rounds.identify, rounds.learn_mask

    def watched_identify(variant: torch.Tensor, *arguments: Any, **more: Any) -> Any:
        seen.append((variant, more["last"]))
        return identify(variant, *arguments, **more)

    def watched_learn(*arguments: Any, **more: Any) -> Any:
        masks.append((arguments[0], learn_mask(*arguments, **more)))
        return masks[-1][1]

    monkeypatch.setattr(rounds, "identify", watched_identify)
    monkeypatch.setattr(rounds, "learn_mask", watched_learn)
    run(changed(tiny_settings, rounds=3), tiny_prepared)
    features = tiny_prepared.features.matrix
    torch.testing.assert_close(seen[0][0], 0.5 * features)
    assert seen[0][1] is None
    assert masks[0][0].mu.abs().max() == 0
    for earlier, later in ((0, 1), (1, 2)):
        torch.testing.assert_close(seen[later][0], features * (1 - masks[earlier][1].mask))
        assert seen[later][1] is not None
        assert masks[later][0] is masks[earlier][1].learned


def test_legacy_environments_see_all_features_in_every_round(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl import rounds

    seen: list[torch.Tensor] = []
    identify = rounds.identify

    def watched(variant: torch.Tensor, *arguments: Any, **more: Any) -> Any:
        seen.append(variant)
        return identify(variant, *arguments, **more)

    monkeypatch.setattr(rounds, "identify", watched)
    run(changed(tiny_settings, rounds=2, environments={"sees": "all"}), tiny_prepared)
    assert all(torch.equal(features, tiny_prepared.features.matrix) for features in seen)
    assert len(seen) == 2


def test_rounds_of_hard_em_go_on_from_the_last_and_report_their_moves(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    environments = {"assignment": "hard_em", "hard_em": {"max_rounds": 30, "content_dim": 3}}
    result = run(changed(tiny_settings, rounds=2, environments=environments), tiny_prepared)
    first, second = result.rounds
    for report in (first, second):
        assert 1 <= len(report.moves) <= 30
        assert report.converged == (report.moves[-1] <= 0.01)
    assert first.moved_share == 1.0
    assert second.moved_share < 0.4  # fresh random labels would move half of them
    again = run(changed(tiny_settings, rounds=2, environments=environments), tiny_prepared)
    assert again.metrics == result.metrics
    assert torch.equal(again.mask, result.mask)
