"""The whole rule on planted truths: fit, draw, judge, run who is needed, until all is decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from painvrl.stats.dominance import non_dominated
from painvrl.stats.seed_effects import draw_means, fit
from painvrl.study.confirmation.decision import Decision, judge, next_step

AT_MOST = 10
SEED_NOISE = 0.05  # larger than what separates the candidates


@dataclass
class Record:
    """What many confirmations came to. ``costs``: of wrong decisions, in standard deviations of a run."""

    decided: Counter[Decision] = field(default_factory=Counter)
    right: Counter[Decision] = field(default_factory=Counter)
    runs: list[np.ndarray] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def share_right(self, decision: Decision) -> float:
        return self.right[decision] / self.decided[decision]

    @property
    def seeds(self) -> float:
        return float(np.mean([runs.mean() for runs in self.runs]))


def confirm(
    truth: np.ndarray, noise: float, sure: float, rng: np.random.Generator, *, trainings: int | None = None
) -> tuple[tuple[Decision, ...], np.ndarray]:
    """``trainings`` have equal parts of the candidates, which have most of their noise from the training."""
    values = truth[:, None] + SEED_NOISE * rng.standard_normal((1, AT_MOST, truth.shape[1]))
    if trainings is None:
        training = np.arange(len(truth))
        values = values + noise * rng.standard_normal(values.shape)
    else:
        training = np.repeat(np.arange(trainings), len(truth) // trainings)
        values = values + noise * rng.standard_normal((trainings, *values.shape[1:]))[training]
        values = values + noise / 5 * rng.standard_normal(values.shape)
    runs = np.full(training.max() + 1, 2)
    while True:
        ran = np.arange(runs.max()) < runs[training][:, None]
        seen = np.where(ran[:, :, None], values[:, : runs.max()], np.nan)
        verdict = judge(draw_means(fit(seen), 500, rng), sure)
        needed = np.bincount(training, verdict.needed) > 0
        wanted = next_step(runs, needed, AT_MOST)
        if (wanted == runs).all():
            return verdict.decisions, runs
        runs = wanted


def simulate(
    make: Callable[[np.random.Generator], np.ndarray],
    noise: float,
    *,
    times: int,
    sure: float = 0.9,
    trainings: int | None = None,
) -> Record:
    rng, record = np.random.default_rng(0), Record()
    for _ in range(times):
        truth = make(rng)
        front = non_dominated(truth)
        decisions, runs = confirm(truth, noise, sure, rng, trainings=trainings)
        record.runs.append(runs)
        for place, decision in enumerate(decisions):
            record.decided[decision] += 1
            right = front[place] == (decision is Decision.IN)
            record.right[decision] += right
            if decision is not Decision.UNDECIDED and not right:
                record.costs.append(cost(truth, place, decision) / noise)
    return record


def cost(truth: np.ndarray, place: int, decision: Decision) -> float:
    """How far the truth is from one where the decision is right: in that objective where it is closest."""
    others = np.delete(truth, place, axis=0)
    if decision is Decision.IN:  # until the clearest dominator dominates no more
        return float((others - truth[place]).min(axis=1).max())
    return float((truth[place] - others).max(axis=1).min())  # until somebody dominates it


def bent(rng: np.random.Generator) -> np.ndarray:
    """Ten candidates on and up to a third below a bent front of two objectives."""
    directions = np.abs(rng.standard_normal((10, 2)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return 0.3 * directions * (1 - 0.3 * rng.random((10, 1)))


def two(rng: np.random.Generator) -> np.ndarray:
    """Two candidates on a line, as far apart as the noise moves them."""
    return 0.01 * rng.standard_normal((2, 1))


def curves(rng: np.random.Generator) -> np.ndarray:
    """Eight points on each of three bent curves, which lie close to each other."""
    angles = np.linspace(0.05, np.pi / 2 - 0.05, 8) + 0.02 * rng.standard_normal((3, 8))
    radii = 0.3 * (1 - 0.15 * rng.random((3, 1, 1)))
    points: np.ndarray = (radii * np.stack([np.cos(angles), np.sin(angles)], axis=2)).reshape(24, 2)
    return points


def equal(rng: np.random.Generator) -> np.ndarray:
    return np.full((2, 2), 0.2)


def test_decisions_on_a_front_are_right_at_least_as_often_as_they_say() -> None:
    record = simulate(bent, 0.01, times=60)
    assert record.share_right(Decision.IN) >= 0.9
    assert record.share_right(Decision.OUT) >= 0.9
    assert record.decided[Decision.UNDECIDED] < 0.25 * record.decided.total()


def test_points_that_move_with_their_training_are_decided_as_rightly_as_others() -> None:
    record = simulate(curves, 0.01, times=30, trainings=3)
    assert record.share_right(Decision.IN) >= 0.9
    assert record.share_right(Decision.OUT) >= 0.9
    assert record.decided[Decision.UNDECIDED] < 0.4 * record.decided.total()


@pytest.mark.parametrize("sure", [0.8, 0.9])
def test_where_one_comparison_decides_the_promised_rate_is_the_true_one(sure: float) -> None:
    record = simulate(two, 0.01, times=500, sure=sure)
    for decision in (Decision.IN, Decision.OUT):
        # A decision falls where the probability has passed `sure`, so it is right somewhat more often.
        assert sure <= record.share_right(decision) <= sure + 0.08


def test_a_wrong_decision_costs_less_than_the_noise_of_a_run() -> None:
    record = simulate(bent, 0.03, times=60)
    assert record.costs
    assert np.quantile(record.costs, 0.95) < 1


def test_equal_candidates_are_rarely_reported_apart() -> None:
    record = simulate(equal, 0.01, times=100)
    assert record.decided[Decision.OUT] <= 0.1 * record.decided.total()


def test_without_noise_two_seeds_decide_everything_and_rightly() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        truth = bent(rng)
        decisions, runs = confirm(truth, 0.0, 0.9, rng)
        assert runs.tolist() == [2] * 10
        assert [one is Decision.IN for one in decisions] == non_dominated(truth).tolist()
        assert Decision.UNDECIDED not in decisions


def test_more_noise_needs_more_seeds() -> None:
    quiet, louder, loudest = (simulate(bent, noise, times=25).seeds for noise in (0.001, 0.01, 0.03))
    assert 2 <= quiet < louder < loudest <= AT_MOST
    assert louder < 0.6 * AT_MOST  # what is clear is not run again
