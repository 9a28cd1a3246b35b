"""The table of arms: its grids, its bootstrap, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from benchmarks.invariance import Gains
    from painvrl.run.prepare import Prepared


def some_gains(seed: int, models: int = 1) -> list[Gains]:
    """Positives of 30 users, who differ from seed to seed, and of 20 items."""
    from benchmarks.invariance import Gains

    rng = np.random.default_rng(seed)
    user, item = np.sort(rng.integers(30, size=200)), rng.integers(20, size=200)
    return [Gains(user=user, item=item, gain=rng.random(200).astype(np.float32)) for _ in range(models)]


@pytest.mark.parametrize("name", ["wrong-text", "wrong-genres", "control", "control-no-decoy"])
def test_every_point_of_every_arm_is_a_configuration_of_its_own(name: str) -> None:
    from benchmarks.common import config
    from benchmarks.invariance import COUNTED, STUDIES, arms_of, base_of

    study = STUDIES[name]
    base = base_of(study, 0)
    arms = arms_of(study, 2)
    assert len(arms) == 15
    points = {arm: [config(base, change) for change in changes] for arm, changes in arms.items()}
    for arm, found in points.items():
        assert len({one.fingerprint() for one in found}) == len(found), arm
        assert {one.backbone.l2 for one in found} == {0.1, 0.3}, arm
        blind = arm in {"vrex", "group-dro", COUNTED}  # of two, one left out is too few; not chosen by it
        assert all(one.evaluation.loeo != blind for one in found), arm
    assert len(points["loeo-subset"]) == 2 * (2 ** len(study.names) - 1)
    assert {one.mask.sparsity for one in points["known"]} == set(study.shares)
    assert all(bool(one.features.decoys) == ("decoy" in study.names) for one in points["known"])
    assert all(one.features.scales == dict.fromkeys(study.closed, 0.0) for one in points["oracle"])
    assert {one.environments.start for one in points["inferred-from-batches"]} == {"column"}
    assert {one.environments.column[0].column for one in points["shuffled-labels"]} == {"shuffled batch"}
    assert {one.environments.count for one in points[COUNTED]} == {2, 4, 8}
    several = arms_of(study, 3)
    assert all(config(base, change).evaluation.loeo for change in several["vrex"])


def test_ten_seeds_of_an_era_have_ten_cut_years_and_trailers_close_two_gates(tmp_path: Path) -> None:
    from benchmarks.common import config
    from benchmarks.invariance import STUDIES, arms_of, base_of

    study = STUDIES["trailers-older"]
    with pytest.raises(SystemExit, match="--trailers"):
        base_of(study, 0)
    base = base_of(study, 0, tmp_path / "trailers.npz")
    splits = [config(base, study.of_seed(seed)).split for seed in range(6)]
    assert [one.train[0] for one in splits] == [1994, 1995, 1993, 1996, 1992, 1997]  # type: ignore[union-attr]
    assert [one.ood[1] for one in splits] == [1980, 1981, 1979, 1982, 1978, 1983]  # type: ignore[union-attr]
    assert len({study.of_seed(seed)["split"]["train"][0] if seed else 1994 for seed in range(10)}) == 10
    assert splits[0].train[1] is None  # type: ignore[union-attr]
    arms = arms_of(study, 3)
    assert {one["mask"]["sparsity"] for one in arms["known"]} == {0.0, 0.2, 0.4}
    assert {tuple(one["features"]["scales"]) for one in arms["oracle"]} == {("visual", "audio")}
    assert STUDIES["wrong-text"].of_seed(3) == {"seed": 3}


def test_shuffled_labels_are_as_many_of_each_on_the_same_train_items(tiny_prepared: Prepared) -> None:
    from benchmarks.common import config
    from benchmarks.invariance import STUDIES, _with_items, _with_shuffled_columns, base_of

    n_items = tiny_prepared.train.n_items
    warm = (tiny_prepared.train.item_degree() > 0).numpy()
    batch = np.where(np.arange(n_items) % 3 == 0, "changed", "as it is")
    batch[~warm] = "changed"
    data = _with_items(tiny_prepared, {"batch": batch})
    found = _with_shuffled_columns(data, config(base_of(STUDIES["wrong-text"], 0)))
    shuffled = found.dataset.columns.item["shuffled batch"]
    assert sorted(shuffled[warm]) == sorted(batch[warm])
    assert (shuffled[~warm] == "changed").all()
    assert (shuffled != batch).any()
    assert np.array_equal(found.dataset.columns.item["batch"], batch)


@pytest.mark.parametrize("name", ["control", "control-no-decoy"])
def test_batches_of_a_control_are_drawn_and_no_vector_is_wrong(
    name: str, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import invariance
    from benchmarks.common import config
    from benchmarks.invariance import STUDIES, base_of, data_of

    asked: list[Any] = []

    def prepare(settings: Any, **_: Any) -> Prepared:
        asked.append(settings)
        return tiny_prepared

    monkeypatch.setattr(invariance, "prepare", prepare)
    study = STUDIES[name]
    found = data_of(config(base_of(study, 0)), study)
    batch = found.dataset.columns.item["batch"]
    assert set(batch) == {"changed", "as it is"}
    assert 0 < (batch == "changed").mean() < 0.6
    assert asked[0].split.train_broken == 0
    assert ("decoy" in asked[0].features.decoys) == (name == "control")


def test_a_training_is_kept_by_settings_data_and_code(
    tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import invariance
    from benchmarks.invariance import STUDIES, Seed, _with_items, base_of

    study = STUDIES["wrong-text"]
    at = Seed(study, base_of(study, 0), 0)

    def key(data: Prepared, l2: float = 0.1) -> str:
        at._prepared = data
        return at.key(at.config({"backbone": {"l2": l2}}))

    none = np.full(tiny_prepared.train.n_items, "as it is")
    data = _with_items(tiny_prepared, {"batch": none})
    first = key(data)
    assert key(data) == first
    others = [
        key(data, 0.3),
        key(_with_items(data, {"batch": np.where(np.arange(len(none)) == 0, "changed", none)})),
        key(replace(data, dataset=replace(data.dataset, fingerprint="other"))),
        key(replace(data, split=replace(data.split, fingerprint="other"))),
    ]
    monkeypatch.setattr(invariance, "numbers_of", lambda device: "other code")
    assert len({first, *others, key(data)}) == 6


def test_the_first_row_is_the_mean_over_users_and_then_over_seeds() -> None:
    from benchmarks.invariance import drawn_means

    seeds = [some_gains(seed, models=2) for seed in range(3)]
    found = drawn_means(seeds, 10, np.random.default_rng(0))
    for model in range(2):
        expected = []
        for gains in seeds:
            of_user: dict[int, float] = {}
            for user, gain in zip(gains[model].user, gains[model].gain, strict=True):
                of_user[int(user)] = of_user.get(int(user), 0.0) + float(gain)
            expected.append(sum(of_user.values()) / len(of_user))
            assert gains[model].mean() == pytest.approx(expected[-1], rel=1e-5)
        assert found[0, model] == pytest.approx(np.mean(expected), rel=1e-5)


def test_draws_vary_with_seeds_users_and_items_and_share_them_between_models() -> None:
    from benchmarks.invariance import Gains, drawn_means

    (one,) = some_gains(0)
    twins = drawn_means([[one, one]], 300, np.random.default_rng(0))
    assert np.array_equal(twins[:, 0], twins[:, 1])
    spread = twins[1:, 0].std()
    assert spread > 0
    # All gains on one item: its weight multiplies every draw, which then spreads as the weight does.
    single = Gains(user=one.user, item=np.zeros_like(one.item), gain=one.gain)
    alone = drawn_means([[single]], 300, np.random.default_rng(0))[1:, 0]
    assert alone.std() / alone.mean() > 0.8
    assert spread / twins[1:, 0].mean() < 0.5
    # One of two seeds got nothing: a draw in four has that one twice.
    nothing = Gains(user=one.user, item=one.item, gain=0 * one.gain)
    both = drawn_means([[one], [nothing]], 400, np.random.default_rng(0))[1:, 0]
    assert np.mean(both == 0) == pytest.approx(0.25, abs=0.08)


def test_holm_rejects_nothing_after_the_first_that_stands() -> None:
    from benchmarks.invariance import holm

    assert holm([0.037, 0.033, 0.034]) == pytest.approx([0.099] * 3)  # 0.037 alone is below 0.05
    assert holm([0.2, 0.001, 0.03]) == pytest.approx([0.2, 0.003, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]) == []


def test_only_the_primary_comparison_stands_outside_its_tables_family(tmp_path: Path) -> None:
    """Others have Bonferroni's interval; a share is told where the gap excludes 0."""
    from benchmarks.invariance import PRIMARY, Gains, Kept, drawn_means, interval, table, two_sided

    arms = ("known", "all", "vrex", "oracle")
    kept = Kept(tmp_path)
    (one,) = some_gains(0)

    def told(rule: str, id_dim: int, oracle: float) -> dict[str, dict[str, Any]]:
        scales = dict(zip(arms, (1.0, 0.9, 1.02, oracle), strict=True))
        noise = np.random.default_rng(3)
        for arm in arms:
            gain = (one.gain * scales[arm] * noise.uniform(0.9, 1.1, len(one.gain))).astype(np.float32)
            gains = Gains(user=one.user, item=one.item, gain=gain)
            kept.store(arm, {"change": {}, "seconds": 1.0}, {"iid": gains, "ood": gains})
        picked = {0: {arm: {rule: arm} for arm in arms}}
        return {row["arm"]: row for row in table(kept, PRIMARY, picked, rule, id_dim, 400)}

    rows = told("loeo", 0, 2.0)
    means = drawn_means([[kept.gains(arm, "ood") for arm in arms]], 400, np.random.default_rng(0))
    assert rows["all"]["known ahead by"] == pytest.approx(interval(means[:, 0] - means[:, 1]))
    for rule, id_dim in (("iid", 0), ("loeo", 64)):
        other = told(rule, id_dim, 2.0)["all"]
        expected = interval(means[:, 0] - means[:, 1], 1 - 0.05 / 3)
        assert other["known ahead by"] == pytest.approx(expected)
    assert rows["vrex"]["known ahead by"] == pytest.approx(interval(means[:, 0] - means[:, 2], 0.975))
    vrex, oracle = (two_sided(means[1:, 0] - means[1:, place]) for place in (2, 3))
    assert vrex > oracle
    assert rows["vrex"]["p"] == pytest.approx(max(vrex, 2 * oracle))
    assert rows["oracle"]["share of the gap"][0] == pytest.approx(1.0)
    assert "share of the gap" not in told("loeo", 0, 0.9)["vrex"]


def test_what_is_kept_is_not_trained_again_and_test_parts_are_read_for_chosen_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import invariance
    from benchmarks.invariance import STUDIES, Kept, Seed, arms_of, base_of, measure
    from painvrl.data.guard import AccessLog

    trained: list[tuple[float, bool]] = []

    monkeypatch.setattr(Seed, "key", lambda self, settings: settings.fingerprint())

    def train(
        self: Seed, settings: Any, test: AccessLog | None
    ) -> tuple[dict[str, Any], Mapping[str, Gains]]:
        trained.append((settings.backbone.l2, test is not None))
        value = settings.backbone.l2
        metrics = {"iid/ndcg_at_20": -value, "ood/ndcg_at_20": value}
        if settings.evaluation.loeo:
            metrics["loeo/ndcg_at_20"] = 2 + value
        gains = {"iid": some_gains(1)[0], "ood": some_gains(2)[0]}
        return {"metrics": metrics, "mask": [1.0], "seconds": 1.0}, gains

    monkeypatch.setattr(invariance.Seed, "train", train)
    study = STUDIES["wrong-text"]
    base = base_of(study, 0)
    arms = {"all": arms_of(study, 2)["all"]}

    def again(test: AccessLog | None) -> dict[str, dict[str, str]]:
        return measure(Kept(tmp_path), Seed(study, base, 0), 0, arms, test)

    picked = again(None)
    assert trained == [(0.1, False), (0.3, False)]
    rows = Kept(tmp_path).rows
    assert rows[picked["all"]["loeo"]]["change"]["backbone"]["l2"] == 0.3
    assert rows[picked["all"]["iid"]]["change"]["backbone"]["l2"] == 0.1
    assert picked["all"]["iid-with-loeo"] == picked["all"]["iid"]  # 2.1 is more than 90% of 2.3
    assert again(None) == picked
    assert len(trained) == 2
    sealed = again(AccessLog(tmp_path / "access.jsonl"))
    assert trained[2:] == [(0.3, True), (0.1, True)]
    assert again(AccessLog(tmp_path / "access.jsonl")) == sealed
    assert len(trained) == 4
    arms = {"vrex": arms_of(study, 2)["vrex"]}
    picked = again(None)  # two environments: chosen by IID, and its best by OOD beside it
    rows = Kept(tmp_path).rows
    assert list(picked) == ["vrex", "vrex, best by ood"]
    for arm, l2 in (("vrex", 0.1), ("vrex, best by ood", 0.3)):
        assert {rows[key]["change"]["backbone"]["l2"] for key in picked[arm].values()} == {l2}
    assert Kept(tmp_path).gains(sealed["all"]["iid"], "ood").mean() == some_gains(2)[0].mean()
