"""How often is luck called a regression? ``python -m benchmarks.compare_gate [--times 150] [--studies 400]``.

Pairs of studies from one generator, so that nothing changed between them but the points that were tried, the
noise of the training, and, with ``--worse``, a share that every trial of the second one loses. Trials are a
trade-off along one hyperparameter with three more that have a best value; users differ in how well they are
served, and both studies have the same ones. Beside the interval as built, three others: users drawn alone,
trials drawn with replacement as well (percentiles), and the same turned about the value ("basic").

Users are noise that the interval knows well, and they hide what it makes of the search. So a second table has
none: of ``--studies`` studies each is compared with ``PARTNERS`` others, in both directions, and what these
pairs share is in the bootstrap over studies. Beside Student's quantile, as built, there is the normal one.
``--times 0`` or ``--studies 0`` leaves a table out.
"""

from __future__ import annotations

import argparse
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import print_table
from painvrl.evaluation.user_draws import drawn_volumes
from painvrl.evaluation.user_values import UserValues
from painvrl.stats.dominance import hypervolumes
from painvrl.stats.volume_gap import gap

NAMES = ("iid/ndcg_at_20", "iid/recall_at_20", "ood/ndcg_at_20", "ood/recall_at_20")
USERS, DRAWS = 400, 300
TRAINING_NOISE, USER_NOISE = 0.01, 0.6  # shares of a trial's objectives
SETTINGS = (
    ("random", 16, 2),
    ("random", 40, 2),
    ("random", 16, 4),
    ("random", 40, 4),
    ("tpe", 40, 2),
    ("tpe", 40, 4),
)

SEARCHES = (
    ("random", 10, 2),
    ("random", 16, 2),
    ("random", 40, 2),
    ("random", 40, 4),
    ("tpe", 16, 2),
    ("tpe", 40, 2),
    ("tpe", 80, 2),
    ("tpe", 40, 4),
)
PARTNERS, RESAMPLED = 20, 1000
NORMAL = NormalDist().inv_cdf(0.975)

Array = NDArray[np.float64]


def quality(points: Array, width: int) -> Array:
    """``[T, M]`` of points ``[T, 4]``."""
    trade = points[:, 0]
    kept = 1 - 0.5 * ((points[:, 1:] - [0.3, 0.6, 0.5]) ** 2).sum(axis=1)
    iid = 0.25 * (1 - 0.6 * trade**2) * kept
    ood = 0.10 * (0.15 + 0.85 * np.sqrt(trade)) * kept
    columns = [iid, 1.1 * iid * (1 - 0.1 * points[:, 1]), ood, 1.3 * ood * (1 - 0.15 * points[:, 2])]
    return np.stack(columns if width == 4 else [iid, ood], axis=1)


def searched(sampler: str, trials: int, width: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """The points that a search tries, ``[T, 4]``, and the noise of their trainings, a factor, ``[T, 1]``."""
    noise = 1 + TRAINING_NOISE * rng.standard_normal((trials, 1))
    if sampler == "random":
        return rng.random((trials, 4)), noise
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seeded = optuna.samplers.TPESampler(seed=int(rng.integers(2**31)))
    study = optuna.create_study(directions=["maximize"] * width, sampler=seeded)
    points = []
    for row in noise:
        trial = study.ask()
        points.append([trial.suggest_float(f"knob_{place}", 0, 1) for place in range(4)])
        study.tell(trial, (quality(np.array(points[-1:]), width)[0] * row).tolist())
    return np.array(points), noise


def trained(
    tried: tuple[Array, Array],
    names: tuple[str, ...],
    affinity: Array,
    worse: float,
    rng: np.random.Generator,
) -> list[UserValues]:
    """What every user got from each point."""
    points, noise = tried
    trials = []
    for row in quality(points, len(names)) * (1 - worse) * noise:
        values = {
            name: (
                mean * (affinity[int(name.startswith("ood"))] + USER_NOISE * rng.standard_normal(USERS))
            ).astype(np.float32)
            for name, mean in zip(names, row, strict=True)
        }
        users = {part: np.arange(USERS) for part in ("iid", "ood")}
        trials.append(UserValues(users=users, values=values))
    return trials


def pair(
    sampler: str, trials: int, width: int, worse: float, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """The interval of the logarithm of the ratio of hypervolumes, by the way it is made."""
    names = NAMES if width == 4 else NAMES[::2]
    affinity = rng.lognormal(-0.5, 1, (2, USERS))
    a, b = (
        trained(searched(sampler, trials, width, rng), names, affinity, loss, rng) for loss in (0.0, worse)
    )
    means = [
        np.array([[one.values[name].mean(dtype=float) for name in names] for one in side]) for side in (a, b)
    ]
    draws = drawn_volumes(a, b, names, paired=True, draws=DRAWS, rng=rng)
    built = gap(*(one[:, None] for one in means), pairs=[], draws=draws, level=0.95).relative
    value = math.log1p(built.value)
    users = np.log(draws[1] / draws[0])
    # A draw of trials beside a draw of users: what either changes is added up.
    sets = [np.where(_drawn_trials(len(side), rng)[:, :, None], side[None], 0.0) for side in means]
    both = np.log(hypervolumes(sets[1]) / hypervolumes(sets[0])) + users - value
    low, high = np.quantile(both, [0.025, 0.975])
    return {
        "value": (value, value),
        "as built": (math.log1p(built.low), math.log1p(built.high)),
        "users alone": tuple(np.quantile(users, [0.025, 0.975])),
        "users and drawn trials": (low, high),
        "the same, basic": (2 * value - high, 2 * value - low),
    }


def _drawn_trials(trials: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    chosen = np.zeros((DRAWS, trials), dtype=bool)
    chosen[np.arange(DRAWS)[:, None], rng.integers(trials, size=(DRAWS, trials))] = True
    return chosen


def without_users(
    sampler: str, trials: int, width: int, studies: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """``[studies, PARTNERS, 2]``: the log ratios of pairs, and half the width of their intervals.

    The last axis is the quantile: Student's, as built, and the normal one.
    """
    means = []
    for _ in range(studies):
        points, noise = searched(sampler, trials, width, rng)
        means.append(quality(points, width) * noise)
    variances = [_variance(one) for one in means]
    values, halves = np.zeros((2, studies, PARTNERS, 2))
    for place, a in enumerate(means):
        for step in range(PARTNERS):
            other = (place + step + 1) % studies
            built = gap(a[:, None], means[other][:, None], pairs=[], draws=None, level=0.95).relative
            values[place, step] = math.log1p(built.value)
            halves[place, step, 0] = math.log1p(built.high) - values[place, step, 0]
            halves[place, step, 1] = NORMAL * math.sqrt(variances[place] + variances[other])
    return values, halves


def _variance(side: Array) -> float:
    """The jackknife's variance of the logarithm of the hypervolume."""
    sets = np.repeat(side[None], len(side), axis=0)
    sets[np.arange(len(side)), np.arange(len(side))] = 0.0
    return len(side) * float(np.var(np.log(hypervolumes(sets)), ddof=1))


def fired_over_studies(fired: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float, float]:
    """The share of ``fired`` ``[studies, PARTNERS]``, and its 95% interval when studies are drawn again."""
    studies = len(fired)
    partner = (np.arange(studies)[:, None] + np.arange(1, PARTNERS + 1)) % studies
    shares = []
    for _ in range(RESAMPLED):
        times = np.bincount(rng.integers(studies, size=studies), minlength=studies)
        weight = times[:, None] * times[partner]  # a pair is there as often as both of its studies
        shares.append(float((weight * fired).sum() / weight.sum()))
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(fired.mean()), float(low), float(high)


def print_without_users(studies: int) -> None:
    """The second table."""
    rows = []
    for sampler, trials, width in SEARCHES:
        rng = np.random.default_rng(0)
        values, halves = without_users(sampler, trials, width, studies, rng)
        cells = [f"{sampler}, {trials} trials, {width} objectives", f"{values[:, :, 0].std():.3f}"]
        for way in range(2):
            # One direction or the other: half of it is the gate's share.
            share, low, high = fired_over_studies(np.abs(values[:, :, way]) > halves[:, :, way], rng)
            reach = 2 * halves[:, :, way].mean()
            cells.append(f"{share / 2:.3f} [{low / 2:.3f}, {high / 2:.3f}] ({reach:.3f})")
        rows.append(cells)
    print_table(
        f"Without users: how often the gate fires [95%] (width), {studies} studies, {PARTNERS} others each",
        ["studies", "spread", "as built", "normal quantile"],
        rows,
    )


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=150)
    parser.add_argument("--worse", type=float, default=0.0)
    parser.add_argument("--studies", type=int, default=400)
    asked = parser.parse_args()
    if asked.times:
        print_with_users(asked.times, asked.worse)
    if asked.studies:
        print_without_users(asked.studies)


def print_with_users(times: int, worse: float) -> None:
    """The first table."""
    rows = []
    for sampler, trials, width in SETTINGS:
        rng = np.random.default_rng(0)
        pairs = [pair(sampler, trials, width, worse, rng) for _ in range(times)]
        spread = np.std([one["value"][0] for one in pairs])
        cells = [f"{sampler}, {trials} trials, {width} objectives", f"{spread:.3f}"]
        for way in list(pairs[0])[1:]:
            low, high = np.array([one[way] for one in pairs]).T
            cells.append(f"{np.mean(high < 0):.3f} ({np.mean(high - low):.3f})")
        rows.append(cells)
    print_table(
        f"How often the gate fires (interval's width), {times} pairs, B worse by {worse:.0%}",
        ["studies", "spread", "as built", "users alone", "users and drawn trials", "the same, basic"],
        rows,
    )


if __name__ == "__main__":
    main()
