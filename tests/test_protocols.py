"""Whole runs on splits that have more than two valid parts, or users that train does not have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.baselines import comparison, jobs
from painvrl.baselines.comparison import compare
from painvrl.baselines.popularity import POPULARITY
from painvrl.baselines.results import OOD
from painvrl.baselines.ridge import RIDGE
from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace
from painvrl.data.dataset import Columns, Dataset
from painvrl.data.guard import AccessLog
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.data.sources.planted import read_planted
from painvrl.data.splits import Split, make_split
from painvrl.evaluation.metrics import STANDARD
from painvrl.run.config import TrainConfig
from painvrl.run.final import evaluate_test, refit
from painvrl.run.pipeline import RunResult, reweighed, run
from painvrl.run.prepare import Prepared, prepare_split

CPU = torch.device("cpu")
USER_GROUP = {"protocol": "user_group", "column": "city", "share": 0.3}
GIVEN = {"protocol": "given"}
NDCG = OOD.partition("/")[2]


def labelled(config: TrainConfig) -> Dataset:
    dataset = read_planted(config.data, 0)  # type: ignore[arg-type]
    rng = np.random.default_rng(5)
    parts = ["train"] * 8 + ["iid_valid", "iid_test"] + [
        f"ood_{name}_{stage}" for name in ("near", "far") for stage in ("valid", "test")
    ]  # fmt: skip
    columns = Columns(
        interaction={"part": rng.choice(parts, len(dataset.interactions))},
        user={"city": np.array(list("ABCDEFGH"))[rng.integers(0, 8, dataset.interactions.n_users)]},
    )
    return replace(dataset, columns=columns)


def prepared_for(config: TrainConfig, split: Split | None = None) -> Prepared:
    dataset = labelled(config)
    split = split or make_split(dataset, config.split, seed=0)
    return prepare_split(config, dataset, split, split.train, CPU)


def pairs(parts: Iterable[Interactions]) -> set[tuple[int, int]]:
    return {pair for part in parts for pair in zip(part.user.tolist(), part.item.tolist(), strict=True)}


def slow_recall(result: RunResult, part: Part, hidden: set[tuple[int, int]], k: int) -> float:
    """Mean recall of a part, from a sorted list a user."""
    scores = (result.user_vectors.double() @ result.item_vectors.double().T).tolist()
    wanted: dict[int, set[int]] = {}
    for user, item in pairs([part.interactions]):
        wanted.setdefault(user, set()).add(item)
    candidates = part.candidates.nonzero()[:, 0].tolist()
    recalls = []
    for user, positives in wanted.items():
        visible = [item for item in candidates if (user, item) not in hidden]
        top = sorted(visible, key=lambda item: -scores[user][item])[:k]
        recalls.append(len(positives & set(top)) / len(positives))
    return sum(recalls) / len(recalls)


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return {
        "data": {
            "kind": "planted",
            "n_users": 60,
            "n_items": 80,
            "n_invariant": 4,
            "n_spurious": 4,
            "n_noise": 2,
            "interactions_per_environment": 8,
        },
        "backbone": {"id_dim": 4, "content_dim": 4},
        "training": {"max_epochs": 12, "evaluate_every": 3, "patience": 2},
        "environments": {"count": 2, "restarts": 1, "steps": 5},
        "mask": {"steps": 5},
        "rounds": 1,
    }


# ----------------------------------------------------------------------------------- user_group


@pytest.fixture(scope="module")
def folding(settings: dict[str, Any]) -> tuple[TrainConfig, Prepared, RunResult]:
    config = TrainConfig.model_validate(settings | {"split": USER_GROUP})
    prepared = prepared_for(config)
    return config, prepared, run(config, prepared)


def test_the_support_teaches_nothing_but_the_vectors_of_its_users(
    folding: tuple[TrainConfig, Prepared, RunResult],
) -> None:
    config, prepared, result = folding
    support = prepared.split.support
    assert support is not None
    halved = support.select(torch.arange(len(support)) % 2 == 0)
    other = run(config, prepared_for(config, replace(prepared.split, support=halved)))
    assert torch.equal(other.item_vectors, result.item_vectors)
    assert torch.equal(other.mask, result.mask)
    supported = support.user_degree() > 0
    trained = prepared.split.train.user_degree() > 0
    assert torch.equal(other.user_vectors[trained], result.user_vectors[trained])
    assert not (supported & trained).any()
    assert (result.user_vectors[supported].abs().sum(dim=1) > 0).all()
    assert not torch.equal(other.user_vectors[supported], result.user_vectors[supported])
    assert not result.user_vectors[~supported & ~trained].any()


@pytest.mark.parametrize("fusion", ["branch", "invariant", "sum", "scalar", "item"])
def test_folded_in_users_are_ranked_by_their_vectors_without_their_support(
    settings: dict[str, Any], fusion: str
) -> None:
    config = TrainConfig.model_validate(settings | {"split": USER_GROUP, "fusion": {"kind": fusion}})
    prepared = prepared_for(config)
    result = run(config, prepared)
    split = prepared.split
    assert split.support is not None
    hidden = pairs([split.train, split.support])
    for name, other in (("iid", "ood"), ("ood", "iid")):
        seen = hidden | pairs([split.valid[other].interactions])
        expected = slow_recall(result, split.valid[name], seen, 10)
        assert result.metrics[f"{name}/recall_at_10"] == pytest.approx(expected, abs=1e-9)


def test_the_curves_follow_the_folded_in_users(folding: tuple[TrainConfig, Prepared, RunResult]) -> None:
    config, prepared, result = folding
    watched = config.model_copy(
        update={"training": config.training.model_copy(update={"monitor": "ood/ndcg_at_20"})}
    )
    seen: list[float] = []

    class Listener:
        def stage(self, name: str) -> None:
            pass

        def curve(self, name: str, step: int, values: Any) -> None:
            if name == "invariant":
                seen.append(values["ood/ndcg_at_20"])

    run(watched, prepared, observer=Listener())
    assert len(set(seen)) > 1
    nobody = replace(prepared, support=None)
    blind = run(config, nobody)
    assert blind.metrics["iid/ndcg_at_20"] == result.metrics["iid/ndcg_at_20"]
    assert blind.metrics["ood/ndcg_at_20"] != result.metrics["ood/ndcg_at_20"]


def test_another_variant_weight_keeps_the_folded_in_vectors(
    folding: tuple[TrainConfig, Prepared, RunResult],
) -> None:
    config, prepared, result = folding
    weight = 0.9
    weighed = reweighed(result, prepared, variant_weight=weight)
    fusion = config.fusion.model_copy(update={"variant_weight": weight})
    trained = run(config.model_copy(update={"fusion": fusion}), prepared)
    torch.testing.assert_close(weighed.user_vectors, trained.user_vectors)
    assert weighed.metrics == pytest.approx(trained.metrics, abs=1e-6)


@pytest.mark.parametrize("retrained", [False, True], ids=["train", "refit"])
def test_the_sealed_parts_are_scored_with_everything_else_hidden(
    folding: tuple[TrainConfig, Prepared, RunResult], tmp_path: Path, retrained: bool
) -> None:
    config, prepared, result = folding
    if retrained:
        result = refit(config, prepared, steps_of=result)
    access_log = AccessLog(tmp_path / "reads")
    found = evaluate_test(result, prepared, access_log=access_log, reader="a test").metrics
    split = prepared.split
    assert split.support is not None
    tests = split.sealed.open(access_log, "the oracle").parts
    seen = pairs([split.train, split.support, *(part.interactions for part in split.valid.values())])
    for name, other in (("iid", "ood"), ("ood", "iid")):
        hidden = seen | pairs([tests[other].interactions])
        expected = slow_recall(result, tests[name], hidden, 10)
        assert found[f"{name}_test/recall_at_10"] == pytest.approx(expected, abs=1e-9)


def test_a_refit_trains_the_valid_users_on_their_support_and_folds_the_others_in(
    folding: tuple[TrainConfig, Prepared, RunResult],
) -> None:
    config, prepared, result = folding
    again = refit(config, prepared, steps_of=result)
    split = prepared.split
    assert split.support is not None
    valid_users = set(split.ood_valid.interactions.user.tolist())
    mine = {pair for pair in pairs([split.support]) if pair[0] in valid_users}
    assert mine
    expected = pairs([split.train, *(part.interactions for part in split.valid.values())]) | mine
    assert again.environments is not None
    assert len(again.environments.label) == len(expected)
    others = torch.tensor(sorted({user for user, _ in pairs([split.support])} - valid_users))
    assert (again.user_vectors[others].abs().sum(dim=1) > 0).all()


def test_only_users_whom_train_does_not_have_are_folded_in(
    folding: tuple[TrainConfig, Prepared, RunResult],
) -> None:
    config, prepared, _ = folding
    split = prepared.split
    assert split.support is not None
    more = split.ood_valid.interactions
    enlarged = prepare_split(config, prepared.dataset, split, more, CPU)
    for each, train in ((prepared, split.train), (enlarged, more)):
        assert each.support is not None
        users = {user for block in each.support.blocks for user in block.users.tolist()}
        trained = set(train.user.tolist())
        assert users == set(split.support.user.tolist()) - trained
    assert set(more.user.tolist()) <= set(split.support.user.tolist())


def test_baselines_refuse_users_whom_they_would_know_nothing_of(
    folding: tuple[TrainConfig, Prepared, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, prepared, _ = folding
    monkeypatch.setattr(comparison, "split_of", lambda *_, **__: (prepared.dataset, prepared.split))
    monkeypatch.setattr(jobs, "prepare", lambda *_, **__: prepared)
    with pytest.raises(
        ConfigError, match=r"split\.protocol: .*users all have training rows.*\(found 'user_group'\)"
    ):
        compare(config, [POPULARITY], Workspace(tmp_path), CPU, seeds=1, trials=1)


# ---------------------------------------------------------------------------- several OOD parts


@pytest.fixture(scope="module")
def several(settings: dict[str, Any]) -> tuple[TrainConfig, Prepared, RunResult]:
    config = TrainConfig.model_validate(settings | {"split": GIVEN})
    prepared = prepared_for(config)
    return config, prepared, run(config, prepared)


def test_every_ood_part_is_scored_from_one_training_and_their_mean_is_ood(
    several: tuple[TrainConfig, Prepared, RunResult],
) -> None:
    config, prepared, result = several
    parts = prepared.split.valid
    assert list(parts) == ["iid", "ood_far", "ood_near"]
    assert {name.partition("/")[0] for name in result.metrics} == {*parts, "ood"}
    for name, part in parts.items():
        others = [each.interactions for key, each in parts.items() if key != name]
        hidden = pairs([prepared.split.train, *others])
        expected = slow_recall(result, part, hidden, 10)
        assert result.metrics[f"{name}/recall_at_10"] == pytest.approx(expected, abs=1e-9)
    for metric in (one.name for one in STANDARD):
        for k in config.evaluation.ks:
            far, near, mean = (
                result.metrics[f"{name}/{metric}_at_{k}"] for name in ("ood_far", "ood_near", "ood")
            )
            assert mean == pytest.approx((far + near) / 2)
    assert result.metrics["ood_far/recall_at_20"] != result.metrics["ood_near/recall_at_20"]


@pytest.mark.parametrize("retrained", [False, True], ids=["train", "refit"])
def test_all_test_parts_stay_sealed_until_they_are_read_together(
    several: tuple[TrainConfig, Prepared, RunResult], tmp_path: Path, retrained: bool
) -> None:
    config, prepared, result = several
    if retrained:
        result = refit(config, prepared, steps_of=result)
        valid = pairs(part.interactions for part in prepared.split.valid.values())
        assert result.environments is not None
        assert len(result.environments.label) == len(prepared.split.train) + len(valid)
    access_log = AccessLog(tmp_path / "reads")
    found = evaluate_test(result, prepared, access_log=access_log, reader="a test")
    assert found.reads == 1
    assert {name.partition("/")[0] for name in found.metrics} == {
        "iid_test", "ood_far_test", "ood_near_test", "ood_test",
    }  # fmt: skip
    split = prepared.split
    tests = split.sealed.open(access_log, "the oracle").parts
    seen = pairs([split.train, *(part.interactions for part in split.valid.values())])
    for name, part in tests.items():
        hidden = seen | pairs(each.interactions for key, each in tests.items() if key != name)
        expected = slow_recall(result, part, hidden, 10)
        assert found.metrics[f"{name}_test/recall_at_10"] == pytest.approx(expected, abs=1e-9)
    mean = (found.metrics["ood_far_test/recall_at_10"] + found.metrics["ood_near_test/recall_at_10"]) / 2
    assert found.metrics["ood_test/recall_at_10"] == pytest.approx(mean)


def test_baselines_are_scored_on_every_named_part_and_judged_by_their_mean(
    several: tuple[TrainConfig, Prepared, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, prepared, result = several
    monkeypatch.setattr(comparison, "split_of", lambda *_, **__: (prepared.dataset, prepared.split))
    monkeypatch.setattr(jobs, "prepare", lambda *_, **__: prepared)
    report = compare(config, [POPULARITY, RIDGE], Workspace(tmp_path), CPU, seeds=1, trials=2)
    for baseline in report.baselines:
        assert baseline.best(OOD) is not None
        for point in baseline.points:
            found = point.runs[0].metrics
            assert set(found) == set(result.metrics)
            assert found[OOD] == pytest.approx((found[f"ood_far/{NDCG}"] + found[f"ood_near/{NDCG}"]) / 2)
            assert point.mean(OOD) == found[OOD]
            assert found[OOD] > 0


def test_the_literal_ranking_hides_every_ood_part(
    several: tuple[TrainConfig, Prepared, RunResult],
) -> None:
    from benchmarks import ours

    _, prepared, _ = several
    hidden = ours.literal_iid_ranking(prepared).hidden
    parts = [part.interactions for name, part in prepared.split.valid.items() if name != "iid"]
    assert {(user, item) for user, items in enumerate(hidden) for item in items} == pairs(
        [prepared.train, *parts]
    )


def test_early_stopping_can_watch_a_named_part_and_refuses_one_that_the_data_lack(
    settings: dict[str, Any],
) -> None:
    def watching(part: str) -> TrainConfig:
        training = settings["training"] | {"monitor": f"{part}/ndcg_at_20"}
        return TrainConfig.model_validate(settings | {"split": GIVEN, "training": training})

    run(watching("ood_far"), prepared_for(watching("ood_far")))
    with pytest.raises(
        ConfigError, match=r"training\.monitor: .* it has iid, ood_far, ood_near, ood .*'ood_fra'"
    ):
        prepared_for(watching("ood_fra"))


# --------------------------------------------------------------------------------- held-out items


def test_after_a_refit_held_out_items_of_the_valid_part_are_no_candidates_whatever_the_protocol(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    split = {"protocol": "item_group", "column": "genre", "share": 0.4}
    config = TrainConfig.model_validate(settings | {"split": split})
    dataset = labelled(config)
    genres = np.array([f"g{index % 8}" for index in range(dataset.interactions.n_items)])
    dataset = replace(dataset, columns=replace(dataset.columns, item={"genre": genres}))
    made = make_split(dataset, config.split, seed=0)
    prepared = prepare_split(config, dataset, made, made.train, CPU)
    result = refit(config, prepared, steps_of=run(config, prepared))
    access_log = AccessLog(tmp_path / "reads")
    found = evaluate_test(result, prepared, access_log=access_log, reader="a test").metrics
    tests = made.sealed.open(access_log, "the oracle").parts
    part = tests["ood"]
    warm = made.ood_valid.interactions.item_degree() > 0
    assert (part.candidates & warm).any()
    part = replace(part, candidates=part.candidates & ~warm)
    seen = pairs([made.train, *(each.interactions for each in made.valid.values())])
    expected = slow_recall(result, part, seen | pairs([tests["iid"].interactions]), 5)
    assert found["ood_test/recall_at_5"] == pytest.approx(expected, abs=1e-9)
