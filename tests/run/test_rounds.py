"""The rounds of environments and mask, and the fixed masks that need none."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from painvrl.core.errors import ConfigError
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared
from painvrl.run.rounds import LABEL_RECOVERY, _true_labels, learn_invariance
from painvrl.run.stages import Stages


def stages_of(config: TrainConfig, prepared: Prepared) -> Stages:
    return Stages(config=config, prepared=prepared)


def with_mask(config: TrainConfig, source: str) -> TrainConfig:
    return TrainConfig.model_validate(config.model_dump() | {"mask": {"source": source}})


@pytest.mark.parametrize(("source", "value"), [("ones", 1.0), ("half", 0.5)])
def test_a_constant_mask_needs_no_rounds(
    tiny_config: TrainConfig, tiny_prepared: Prepared, source: str, value: float
) -> None:
    invariance = learn_invariance(stages_of(with_mask(tiny_config, source), tiny_prepared), None)
    assert invariance.mask.tolist() == [value] * 10
    assert invariance.rounds == ()
    assert invariance.environments is None


@pytest.mark.parametrize(("groups", "closed"), [("feature", 3), ("blocks", 2)])
def test_a_random_mask_closes_as_many_gates_as_a_learned_one(
    tiny_config: TrainConfig, tiny_prepared: Prepared, groups: str, closed: int
) -> None:
    """Ten features, or five blocks of two; others by another seed, and the same by the same."""
    mask = {"source": "random", "sparsity": 0.3, "groups": groups, "block_width": 2}

    def drawn(seed: int) -> list[float]:
        config = TrainConfig.model_validate(tiny_config.model_dump() | {"mask": mask, "seed": seed})
        found: list[float] = learn_invariance(stages_of(config, tiny_prepared), None).mask.tolist()
        return found

    masks = [drawn(seed) for seed in range(6)]
    for one in masks:
        assert set(one) == {0.0, 1.0}
        gates = one if groups == "feature" else one[::2]
        assert gates.count(0.0) == closed
        if groups == "blocks":
            assert one[::2] == one[1::2]
    assert drawn(0) == masks[0]
    assert len({tuple(one) for one in masks}) > 2


def test_a_sparsity_that_rounds_to_no_closed_gate_is_said(
    tiny_config: TrainConfig, tiny_prepared: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    def learn(sparsity: float) -> None:
        mask = {"source": "random", "sparsity": sparsity, "groups": "blocks", "block_width": 2}
        config = TrainConfig.model_validate(tiny_config.model_dump() | {"mask": mask})
        learn_invariance(stages_of(config, tiny_prepared), None)

    for sparsity in (0.0, 0.2):
        learn(sparsity)
    assert not caplog.records
    learn(0.05)
    said = "mask.sparsity 0.05 closes no gate: 0.25 of the 5 gates of mask.groups blocks rounds to none"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_the_given_mask_is_the_planted_one(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    invariance = learn_invariance(stages_of(with_mask(tiny_config, "given"), tiny_prepared), None)
    assert invariance.mask.tolist() == [1.0] * 4 + [0.0] * 6


def test_true_labels_follow_the_pairs_not_the_rows(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    labels = _true_labels(stages_of(tiny_config, tiny_prepared))
    truth = tiny_prepared.dataset.truth
    assert truth is not None
    everything = tiny_prepared.dataset.interactions
    known = {
        (int(u), int(i)): int(e)
        for u, i, e in zip(everything.user, everything.item, truth.environment, strict=True)
    }
    pairs = tiny_prepared.training.pairs
    expected = [known[int(u), int(i)] for u, i in zip(pairs.user, pairs.item, strict=True)]
    assert labels.tolist() == expected
    assert set(expected) == {0, 1}


def test_ood_rows_have_no_true_label(tiny_config: TrainConfig, tiny_prepared: Prepared) -> None:
    ood = replace(tiny_prepared, train=tiny_prepared.split.ood_valid.interactions)
    with pytest.raises(ConfigError, match="OOD rows have no training environment"):
        _true_labels(stages_of(tiny_config, ood))


def test_what_is_given_was_not_recovered(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    settings = tiny_settings | {"environments": {"assignment": "given", "count": 2}}
    result = run(TrainConfig.model_validate(settings), tiny_prepared)
    assert result.rounds
    for report in result.rounds:
        assert not {LABEL_RECOVERY, "environments/log_likelihood"} & set(report.metrics)


def test_the_environments_that_were_found_are_compared_with_the_planted_ones(
    tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    """Pair by pair, and naming by naming."""
    dataset, train, found = tiny_prepared.dataset, tiny_prepared.train, tiny_result.environments
    assert dataset.truth is not None
    assert found is not None
    everything = dataset.interactions
    drew = dict(
        zip(
            zip(everything.user.tolist(), everything.item.tolist(), strict=True),
            dataset.truth.environment.tolist(),
            strict=True,
        )
    )
    pairs = sorted(zip(train.user.tolist(), train.item.tolist(), strict=True))
    planted = [drew[pair] for pair in pairs]
    label = found.label.tolist()
    count = len(found.sizes)
    assert sorted(set(planted)) == [0, 1]
    best = chance = 0.0
    for zero, one in itertools.permutations(range(count), 2):
        name = {zero: 0, one: 1}
        right = sum(name.get(each) == truth for each, truth in zip(label, planted, strict=True))
        best = max(best, right / len(pairs))
        by_luck = sum(label.count(e) * planted.count(t) for e, t in name.items()) / len(pairs) ** 2
        chance = max(chance, by_luck)
    expected = (best - chance) / (dataset.truth.bayes_accuracy - chance)
    reported = tiny_result.rounds[-1].metrics[LABEL_RECOVERY]
    assert reported == pytest.approx(expected)


def test_known_environments_are_labelled_pair_by_pair_and_gates_close_by_modality(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    """The environments of a column, in the order of the training pairs; a tiny modality is one gate."""
    settings = tiny_settings | {
        "environments": {"assignment": "column", "column": {"column": "popularity", "bins": 2}},
        "mask": {"steps": 3, "groups": "blocks", "block_width": 5, "sparsity": 0.5},
        "rounds": 2,
    }
    result = run(TrainConfig.model_validate(settings), tiny_prepared)
    assert result.environments is not None
    degree = tiny_prepared.train.item_degree()
    popular = degree[tiny_prepared.training.pairs.item]
    label = result.environments.label
    assert float(popular[label == 0].max()) < float(popular[label == 1].min())
    assert sorted(len(set(half.tolist())) for half in result.mask.split(5)) == [1, 1]
    assert int((result.mask == 0).sum()) == 5
    assert result.rounds[1].metrics["environments/moved_share"] == 0.0


@pytest.mark.parametrize(
    ("mask", "gates"),
    [
        ({"groups": "blocks", "block_width": 5, "sparsity": 0.8}, 2),
        ({"groups": "feature", "sparsity": 0.99}, 10),
        ({"groups": "feature", "sparsity": 0.99, "source": "random"}, 10),
    ],
)
def test_a_sparsity_that_closes_every_gate_is_refused(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, mask: dict[str, Any], gates: int
) -> None:
    with pytest.raises(ConfigError, match=f"closes all of the {gates} gates"):
        run(TrainConfig.model_validate(tiny_settings | {"mask": {"steps": 3, **mask}}), tiny_prepared)
