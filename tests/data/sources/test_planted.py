from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from painvrl.core.rng import generator
from painvrl.data.dataset import Dataset, PlantedTruth
from painvrl.data.sources import planted
from painvrl.data.sources.planted import PlantedConfig, read_planted

SMALL = PlantedConfig(n_users=80, n_items=120, interactions_per_environment=12)


def truth_of(dataset: Dataset) -> PlantedTruth:
    assert dataset.truth is not None
    return dataset.truth


def values_of(dataset: Dataset) -> np.ndarray:
    return dataset.modalities["planted"].values.double().numpy()


@pytest.fixture(scope="module")
def small() -> Dataset:
    return read_planted(SMALL, 0)


def test_the_default_is_pinned() -> None:
    assert PlantedConfig().model_dump() == {
        "kind": "planted",
        "n_users": 1000,
        "n_items": 1500,
        "n_invariant": 16,
        "n_spurious": 16,
        "n_noise": 16,
        "interactions_per_environment": 40,
        "spurious_strengths": (2.5, 0.3),
        "ood_strength": -1.5,
        "shift": "strength",
        "invariant_affinity": 1.0,
        "shared_affinity": 0.7,
        "own_affinity": 0.5,
        "seed": None,
    }


def test_a_seed_decides_the_data(small: Dataset) -> None:
    again, other = read_planted(SMALL, 0), read_planted(SMALL, 1)
    assert torch.equal(again.interactions.item, small.interactions.item)
    assert torch.equal(truth_of(again).environment, truth_of(small).environment)
    assert np.array_equal(values_of(again), values_of(small))
    assert again.fingerprint == small.fingerprint
    assert not np.array_equal(values_of(other), values_of(small))
    assert other.fingerprint != small.fingerprint


def test_the_datas_own_seed_wins_over_the_runs() -> None:
    fixed = SMALL.model_copy(update={"seed": 7})
    first, second = read_planted(fixed, 0), read_planted(fixed, 1)
    assert torch.equal(first.interactions.item, second.interactions.item)
    assert first.fingerprint == second.fingerprint
    assert torch.equal(first.interactions.item, read_planted(SMALL, 7).interactions.item)


def test_the_fingerprint_tells_configurations_apart(small: Dataset) -> None:
    other = read_planted(SMALL.model_copy(update={"ood_strength": -1.4}), 0)
    assert other.fingerprint != small.fingerprint


def test_no_pair_occurs_twice(small: Dataset) -> None:
    pairs = list(zip(small.interactions.user.tolist(), small.interactions.item.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


def test_every_user_draws_the_budget(small: Dataset) -> None:
    truth = truth_of(small)
    train, ood = truth.part == 0, truth.part == 1
    in_train = torch.bincount(small.interactions.user[train], minlength=80)
    # Two environments that draw the same item share one interaction; nothing else is lost.
    assert int(in_train.max()) <= 24
    assert float(in_train.double().mean()) > 24 * 0.8
    assert torch.bincount(small.interactions.user[ood], minlength=80).tolist() == [12] * 80


def test_environments_are_named_on_training_rows_alone(small: Dataset) -> None:
    truth = truth_of(small)
    assert set(truth.part.tolist()) == {0, 1}
    assert set(truth.environment[truth.part == 0].tolist()) == {0, 1}
    assert set(truth.environment[truth.part == 1].tolist()) == {-1}
    share = float((truth.environment[truth.part == 0] == 0).double().mean())
    assert share == pytest.approx(0.5, abs=0.05)


def test_kinds_mask_and_columns_agree() -> None:
    config = PlantedConfig(
        n_users=5, n_items=20, n_invariant=2, n_spurious=3, n_noise=4, interactions_per_environment=2
    )
    dataset = read_planted(config, 0)
    truth = truth_of(dataset)
    assert truth.kind == ("invariant",) * 2 + ("spurious",) * 3 + ("noise",) * 4
    assert truth.mask.tolist() == [1.0] * 2 + [0.0] * 7
    assert values_of(dataset).shape == (20, 9)
    assert dataset.modalities["planted"].present.all()
    assert len(dataset.titles) == len(dataset.item_ids) == 20
    assert len(dataset.user_ids) == 5


def test_noise_features_may_be_left_out() -> None:
    dataset = read_planted(SMALL.model_copy(update={"n_noise": 0}), 0)
    assert values_of(dataset).shape == (120, 32)


def slow_probabilities(config: PlantedConfig, dataset: Dataset, root: int) -> np.ndarray:
    """``[E + 1, U, I]``: ``softmax_i( <A_u, inv_i> + c <B_u, spu_i> )``, user by user; the OOD one last.

    Tastes are no part of the data set, so they are drawn again under their labels.
    """

    def normal(label: str, *shape: int) -> np.ndarray:
        return torch.randn(*shape, generator=generator(root, "planted", label)).double().numpy()

    users, width = config.n_users, config.n_spurious
    affinity = (
        config.invariant_affinity * normal("A", users, config.n_invariant) / math.sqrt(config.n_invariant)
    )
    trend = normal("trend", 1, width)[0]
    own = config.own_affinity * normal("B", users, width) / math.sqrt(width)
    values = values_of(dataset)
    invariant = values[:, : config.n_invariant]
    spurious = values[:, config.n_invariant : config.n_invariant + width]
    out = np.zeros((len(config.spurious_strengths) + 1, users, config.n_items))
    for e, c in enumerate((*config.spurious_strengths, config.ood_strength)):
        for u in range(users):
            bait = config.shared_affinity * trend / np.linalg.norm(trend) + own[u]
            weight = np.exp(invariant @ affinity[u] + c * (spurious @ bait))
            out[e, u] = weight / weight.sum()
    return out


def test_the_bayes_accuracy_is_that_of_the_best_guess(small: Dataset) -> None:
    p = slow_probabilities(SMALL, small, 0)[:2]
    best = sum(max(p[0, u, i], p[1, u, i]) for u in range(80) for i in range(120)) / 80 / 2
    assert truth_of(small).bayes_accuracy == pytest.approx(best, abs=1e-5)


def test_first_choices_follow_the_model() -> None:
    # One draw a user, so that no item is taken before: the mean log-probability of what was drawn
    # must be that of a draw from p, within its standard error.
    config = PlantedConfig(
        n_users=3000, n_items=30, interactions_per_environment=1, spurious_strengths=(1.5,)
    )
    dataset = read_planted(config, 0)
    p = slow_probabilities(config, dataset, 0)[0]
    train = truth_of(dataset).part == 0
    user, item = dataset.interactions.user[train].numpy(), dataset.interactions.item[train].numpy()
    assert user.tolist() == list(range(3000))
    log_p = np.log(p)
    found = log_p[user, item].mean()
    expected, square = (p * log_p).sum(axis=1), (p * log_p**2).sum(axis=1)
    error = math.sqrt((square - expected**2).mean() / len(user))
    assert abs(found - expected.mean()) < 3 * error
    assert abs(np.log(1 / 30) - expected.mean()) > 20 * error  # a uniform draw would be seen
    # And item by item.
    counts = np.bincount(item, minlength=30)
    assert np.abs(counts - p.sum(axis=0)).max() < 4 * math.sqrt(p.sum(axis=0).max())


def pulls(config: PlantedConfig, direction: np.ndarray) -> dict[int, float]:
    """By environment, the OOD part's as -1, how far the spurious features of what is chosen lie along it."""
    dataset = read_planted(config, 0)
    truth, values = truth_of(dataset), values_of(dataset)
    spurious = values[:, config.n_invariant : config.n_invariant + config.n_spurious]
    return {
        e: float((spurious[dataset.interactions.item[truth.environment == e].numpy()] @ direction).mean())
        for e in (0, 1, -1)
    }


def test_spurious_features_pull_as_strongly_as_their_environment_says() -> None:
    # With one shared affinity and normal features, a logit offset by c moves the mean of what is chosen by c
    # * affinity.
    config = PlantedConfig(
        n_users=400,
        n_items=2000,
        interactions_per_environment=4,
        spurious_strengths=(1.5, 0.3),
        own_affinity=0.0,
        shared_affinity=0.7,
    )
    trend = torch.randn(1, 16, generator=generator(0, "planted", "trend")).double().numpy()[0]
    trend /= np.linalg.norm(trend)
    pull = pulls(config, trend)
    assert pull[0] == pytest.approx(0.7 * 1.5, abs=0.15)
    assert pull[1] == pytest.approx(0.7 * 0.3, abs=0.1)
    assert pull[-1] == pytest.approx(0.7 * -1.5, abs=0.15)
    dataset = read_planted(config, 0)
    train = truth_of(dataset).part == 0
    noise = values_of(dataset)[dataset.interactions.item[train].numpy(), 32:].mean(axis=0)
    assert np.abs(noise).max() < 0.12


def test_a_trend_that_turns_is_each_environments_own_and_ood_goes_against_all() -> None:
    config = PlantedConfig(
        n_users=400,
        n_items=2000,
        interactions_per_environment=4,
        spurious_strengths=(1.2, 1.2),
        shift="trend",
        own_affinity=0.0,
        shared_affinity=0.7,
    )
    labels: list[tuple[object, ...]] = [("trend",), ("trend", 1)]
    trends = []
    for label in labels:
        drawn = torch.randn(1, 16, generator=generator(0, "planted", *label)).double().numpy()[0]
        trends.append(drawn / np.linalg.norm(drawn))
    crossing = trends[0] @ trends[1]
    for mine in (0, 1):
        found = pulls(config, trends[mine])
        assert found[mine] == pytest.approx(0.7 * 1.2, abs=0.15)
        assert found[1 - mine] == pytest.approx(0.7 * 1.2 * crossing, abs=0.15)
        assert found[-1] == pytest.approx(0.7 * -1.5 * (1 + crossing) / math.sqrt(2), abs=0.2)


def test_affinities_that_turn_are_each_environments_own_and_ood_goes_against_all() -> None:
    config = PlantedConfig(
        n_users=300,
        n_items=400,
        interactions_per_environment=6,
        spurious_strengths=(1.5, 1.5),
        shift="affinity",
        own_affinity=1.5,
        shared_affinity=0.0,
    )
    dataset = read_planted(config, 0)
    truth, spurious = truth_of(dataset), values_of(dataset)[:, 16:32]
    labels: list[tuple[object, ...]] = [("B",), ("B", 1)]
    affinities = [
        torch.randn(300, 16, generator=generator(0, "planted", *label)).double().numpy() / 4
        for label in labels
    ]

    def along(environment: int, affinity: np.ndarray) -> float:
        rows = truth.environment == environment
        user, item = dataset.interactions.user[rows].numpy(), dataset.interactions.item[rows].numpy()
        return float((spurious[item] * affinity[user]).sum(axis=1).mean())

    for mine in (0, 1):
        assert along(mine, affinities[mine]) > 1.0
        assert abs(along(mine, affinities[1 - mine])) < 0.25
        assert along(-1, affinities[mine]) < -0.7


@pytest.mark.parametrize("shift", ["trend", "affinity"])
def test_every_kind_of_shift_is_another_world_with_the_same_items(
    shift: Literal["trend", "affinity"], small: Dataset
) -> None:
    other = read_planted(SMALL.model_copy(update={"shift": shift}), 0)
    assert np.array_equal(values_of(other), values_of(small))
    assert other.fingerprint != small.fingerprint
    assert not torch.equal(other.interactions.item, small.interactions.item)


def test_data_sets_keep_the_fingerprint_that_they_had_before_there_were_kinds_of_shift(
    small: Dataset,
) -> None:
    reported = SMALL.model_dump(mode="json")
    del reported["shift"]
    text = json.dumps(reported, separators=(",", ":")).replace("affinity", "taste")  # its name then
    assert small.fingerprint == hashlib.blake2b(f"{text}|0".encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"n_users": 1},
        {"n_items": 9},
        {"n_invariant": 0},
        {"spurious_strengths": ()},
        {"invariant_affinity": 0.0},
        {"interactions_per_environment": 0},
        {"shared_affinity": -0.1},
        {"shift": "season"},
        {"no_such_key": 1},
    ],
)
def test_a_configuration_that_plants_nothing_is_refused(hyperparameters: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PlantedConfig.model_validate(hyperparameters)


def content(dataset: Dataset) -> str:
    truth = truth_of(dataset)
    digest = hashlib.blake2b(digest_size=16)
    columns = (dataset.interactions.user, dataset.interactions.item, truth.environment, truth.part)
    for column in columns:
        digest.update(column.numpy().tobytes())
    return digest.hexdigest()


def test_one_block_draws_what_it_always_drew() -> None:
    config = PlantedConfig()
    assert config.n_users * config.n_items <= planted.BLOCK_CELLS
    dataset = read_planted(config, 0)
    assert content(dataset) == "41026c2ef0c4f843401ca7c36da4b22d"
    assert truth_of(dataset).bayes_accuracy == pytest.approx(0.8179462552070618, abs=1e-6)


def test_blocks_draw_the_first_users_as_ever_and_the_others_anew(
    small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planted, "BLOCK_CELLS", 120 * 30 + 1)
    blocked = read_planted(SMALL, 0)
    truth = truth_of(blocked)
    pairs = list(zip(blocked.interactions.user.tolist(), blocked.interactions.item.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    ood = truth.part == 1
    assert torch.bincount(blocked.interactions.user[ood], minlength=80).tolist() == [12] * 80
    assert torch.bincount(blocked.interactions.user[~ood], minlength=80).min() > 12
    assert truth.bayes_accuracy == pytest.approx(truth_of(small).bayes_accuracy, abs=1e-6)
    alone = read_planted(SMALL.model_copy(update={"n_users": 30}), 0)
    rows, kept = blocked.interactions.user < 30, truth_of(alone).part
    assert torch.equal(blocked.interactions.item[rows], alone.interactions.item)
    assert torch.equal(truth.part[rows], kept)


def test_no_two_draws_share_their_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[object, ...]] = []

    def recorded(root: int, *labels: object) -> torch.Generator:
        drawn.append(labels)
        return generator(root, *labels)

    monkeypatch.setattr(planted, "generator", recorded)
    monkeypatch.setattr(planted, "BLOCK_CELLS", 120 * 30)
    read_planted(SMALL, 0)
    assert len(drawn) == 6 + 3 * 4  # features and affinities, and four draws in each block
    assert len(set(drawn)) == len(drawn)


def test_no_tensor_is_much_larger_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "BLOCK_CELLS", 120 * 8)
    config = SMALL.model_copy(update={"interactions_per_environment": 2, "n_users": 400})
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = operation(*args, **(kwargs or {}))
            made = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
            largest = max([largest, *made])
            return out

    with Largest():
        read_planted(config, 0)
    assert largest <= max(400 * 16, 120 * 48, 2 * 120 * 8)  # affinities, features, a block of 2 environments
