from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.invariance.shared_model import SharedModel, calibrate, calibration_loss, sample_users
from painvrl.model.training_data import TrainingData, training_data

CPU = torch.device("cpu")
USERS, ITEMS, COLD = 300, 40, 7


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vectors() -> tuple[Tensor, Tensor]:
    return torch.randn(USERS, 3, generator=gen(1)), torch.randn(ITEMS, 3, generator=gen(2))


def drawn(temperature: float, draws: int = 60) -> tuple[Tensor, Tensor, TrainingData]:
    """Interactions drawn from ``softmax(temperature * s)`` over all items but a cold one."""
    users, items = vectors()
    scores = temperature * (users @ items.T)
    scores[:, COLD] = -torch.inf
    item = torch.multinomial(scores.softmax(dim=1), draws, replacement=True, generator=gen(3))
    user = torch.arange(USERS)[:, None].expand_as(item)
    train = Interactions(user=user.reshape(-1), item=item.reshape(-1), n_users=USERS, n_items=ITEMS)
    return users, items, training_data(train, CPU)


def slow_likelihood(
    temperature: float, popularity: float, users: Tensor, items: Tensor, data: TrainingData
) -> float:
    """Mean log-probability of the pairs, user by user, from the definition."""
    degree = data.item_degree.double().numpy()
    warm = [item for item in range(len(degree)) if degree[item] > 0]
    scores = (users.double() @ items.double().T).numpy()
    logits = temperature * scores + popularity * np.log1p(degree)
    normaliser = np.log(np.exp(logits[:, warm]).sum(axis=1))
    user, item = data.pairs.user.numpy(), data.pairs.item.numpy()
    return float((logits[user, item] - normaliser[user]).mean())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_calibration_finds_a_known_temperature(temperature: float) -> None:
    users, items, data = drawn(temperature)
    shared = calibrate(users, items, data, gen())
    assert float(shared.temperature) == pytest.approx(temperature, rel=0.05)
    assert float(shared.popularity) == pytest.approx(0.0, abs=0.15)


def test_calibration_finds_that_popularity_is_all_there_is() -> None:
    # Items are drawn in proportion to a weight of their own; the scores say nothing.
    users, items = vectors()
    weight = torch.linspace(1, 12, ITEMS)
    item = torch.multinomial(weight.expand(USERS, ITEMS), 60, replacement=True, generator=gen(3))
    user = torch.arange(USERS)[:, None].expand_as(item)
    train = Interactions(user=user.reshape(-1), item=item.reshape(-1), n_users=USERS, n_items=ITEMS)
    shared = calibrate(users, items, training_data(train, CPU), gen())
    assert float(shared.temperature) == pytest.approx(0.0, abs=0.1)
    assert float(shared.popularity) == pytest.approx(1.0, abs=0.1)


def best_likelihood(users: Tensor, items: Tensor, data: TrainingData) -> float:
    """The maximum over both numbers, by halving the step of a search along the axes."""
    at, step = np.array([0.0, 0.0]), 0.5
    best = slow_likelihood(*at, users, items, data)
    while step > 1e-3:
        moves = [at + step * np.array(move) for move in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1))]
        values = [slow_likelihood(*move, users, items, data) for move in moves]
        if max(values) > best:
            at, best = moves[int(np.argmax(values))], max(values)
        else:
            step /= 2
    return best


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_calibration_reaches_the_maximum_of_the_likelihood(temperature: float) -> None:
    users, items, data = drawn(temperature)
    shared = calibrate(users, items, data, gen())
    found = slow_likelihood(float(shared.temperature), float(shared.popularity), users, items, data)
    assert found == pytest.approx(best_likelihood(users, items, data), abs=5e-4)


@pytest.mark.parametrize(("temperature", "popularity"), [(1.0, 0.0), (1.5, 0.7), (0.2, -0.3)])
def test_the_calibration_loss_is_the_mean_negative_log_likelihood(
    temperature: float, popularity: float
) -> None:
    users, items, data = drawn(1.0, draws=5)
    warm = data.warm > 0
    log_degree = (1 + data.item_degree).log()
    scores = users @ items.T
    loss = calibration_loss(
        torch.tensor(temperature),
        torch.tensor(popularity),
        scores[:, warm],
        log_degree[warm],
        data.user_degree,
        scores[data.pairs.user, data.pairs.item].sum(),
        log_degree[data.pairs.item].sum(),
    )
    expected = -slow_likelihood(temperature, popularity, users, items, data)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_probabilities_equal_the_softmax_over_warm_items() -> None:
    users, items, data = drawn(1.0, draws=3)
    shared = SharedModel(
        users=users,
        items=items,
        log_degree=(1 + data.item_degree).log(),
        warm=data.warm > 0,
        temperature=torch.tensor(1.7),
        popularity=torch.tensor(0.4),
    )
    found = shared.probabilities(torch.tensor([5, 0, 299])).double().numpy()
    degree = data.item_degree.double().numpy()
    for row, user in enumerate((5, 0, 299)):
        logits = [
            math.exp(
                1.7 * float(users[user].double() @ items[item].double()) + 0.4 * math.log1p(degree[item])
            )
            if degree[item] > 0
            else 0.0
            for item in range(ITEMS)
        ]
        np.testing.assert_allclose(found[row], np.array(logits) / sum(logits), rtol=1e-4, atol=1e-9)
    assert found[:, COLD].tolist() == [0.0] * 3


def test_a_subset_of_the_users_calibrates_alike() -> None:
    users, items, data = drawn(1.2)
    whole = calibrate(users, items, data, gen())
    some = calibrate(users, items, data, gen(), cells=ITEMS * 100)  # a third of the users
    assert float(some.temperature) == pytest.approx(float(whole.temperature), rel=0.1)
    assert float(some.temperature) != float(whole.temperature)
    again = calibrate(users, items, data, gen(), cells=ITEMS * 100)
    assert torch.equal(some.temperature, again.temperature)


def test_a_fit_on_very_few_of_many_users_is_said(caplog: pytest.LogCaptureFixture) -> None:
    _, _, data = drawn(1.0)
    with caplog.at_level("INFO", logger="painvrl"):
        assert len(sample_users(data, 20, gen()).users) == 20
        assert caplog.text == ""
        assert len(sample_users(data, 3, gen()).users) == 3
    assert "3 of 300 users are fitted, since more do not fit beside 40 items" in caplog.text
