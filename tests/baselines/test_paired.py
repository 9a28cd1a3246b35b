from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from painvrl.baselines.offsets import Offset
from painvrl.baselines.paired import comparisons
from painvrl.baselines.results import IID, OOD, BaselinePoint, BaselineReport, PairedComparison, TrialRun
from painvrl.evaluation.user_values import UserValues

USERS, SEEDS = 400, 3


Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def ndcg(parts: Parts, means: dict[str, tuple[str, ...]] | None = None) -> UserValues:
    """Of each part the users and what they have got."""
    return UserValues(
        users={part: users for part, (users, _) in parts.items()},
        values={f"{part}/ndcg_at_20": values for part, (_, values) in parts.items()},
        means=means or {},
    )


def judged(iid: float, ood: float, *, seed: int = 0) -> UserValues:
    """Users around these means; what a user adds is the same in all of them."""
    draws = np.random.default_rng(seed)
    parts = {}
    for part, mean in (("iid", iid), ("ood", ood)):
        own = draws.normal(0, 0.1, USERS)
        parts[part] = (np.arange(USERS), (mean + own - own.mean()).astype(np.float32))
    return ndcg(parts)


def noisy(iid: float, ood: float, *, number: int) -> list[UserValues]:
    """Seed by seed the same means, and noise of its own for every user."""
    found = []
    for seed in range(SEEDS):
        draws = np.random.default_rng((number, seed))
        parts = {}
        for part, mean in (("iid", iid), ("ood", ood)):
            own = draws.normal(0, 0.5, USERS)
            parts[part] = (np.arange(USERS), (mean + own - own.mean()).astype(np.float32))
        found.append(ndcg(parts))
    return found


def reported(name: str, *means: tuple[float, float]) -> BaselineReport:
    runs = [
        tuple(TrialRun(seed=seed, metrics={IID: iid, OOD: ood}, seconds=1.0) for seed in range(SEEDS))
        for iid, ood in means
    ]
    return BaselineReport(
        name=name,
        summary="",
        points=tuple(
            BaselinePoint(trial=5, place=place, settings={}, offset=Offset(), runs=one)
            for place, one in enumerate(runs)
        ),
    )


def fought(
    ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]
) -> tuple[PairedComparison, ...]:
    """Duels without noise between trials with these (IID, OOD)."""
    own, other = reported("own", *ours), reported("als", *theirs)
    values = {
        (report.name, 5, number): [judged(*mean, seed=seed) for seed in range(SEEDS)]
        for report, means in ((own, ours), (other, theirs))
        for number, mean in enumerate(means)
    }
    return comparisons(own, [other], values)


def beaten(comparison: PairedComparison) -> list[int]:
    return [point.place for point in comparison.beats]


def test_the_nearest_own_point_is_the_one_that_is_best_on_its_worse_side() -> None:
    ours = [(0.30, 0.01), (0.24, 0.08), (0.20, 0.12)]
    (found,) = fought(ours, [(0.22, 0.07)])
    assert (found.baseline, found.rival.name, found.own.name) == ("als", "5.0", "5.1")
    assert found.iid.mean == pytest.approx(0.02, abs=1e-6)
    assert found.ood.mean == pytest.approx(0.01, abs=1e-6)


def test_without_noise_between_them_means_decide() -> None:
    (found,) = fought([(0.24, 0.08)], [(0.22, 0.07)])
    assert found.verdict == "ahead"
    assert found.beats == ()
    assert found.iid.low == pytest.approx(found.iid.high, abs=1e-5)
    (found,) = fought([(0.22, 0.07)], [(0.24, 0.08)])
    assert found.verdict == "behind"
    assert beaten(found) == [0]
    (found,) = fought([(0.22, 0.09)], [(0.24, 0.08)])
    assert found.verdict == "neither"
    assert found.beats == ()


def test_every_own_point_that_is_surely_lower_on_both_is_beaten() -> None:
    ours = [(0.30, 0.01), (0.20, 0.05), (0.15, 0.06), (0.10, 0.20)]
    (found,) = fought(ours, [(0.25, 0.10)])
    assert beaten(found) == [1, 2]


def test_noise_of_users_makes_a_small_lead_unsure() -> None:
    own, other = reported("own", (0.24, 0.08)), reported("als", (0.23, 0.07))
    values = {("own", 5, 0): noisy(0.24, 0.08, number=0), ("als", 5, 0): noisy(0.23, 0.07, number=1)}
    (found,) = comparisons(own, [other], values)
    assert found.verdict == "neither"
    assert found.iid.low < 0 < found.iid.mean < found.iid.high
    (turned,) = comparisons(other, [own], values)
    assert turned.iid.mean < 0
    assert turned.ood.mean < 0
    assert turned.beats == (), "lower on both, and not surely"
    # Three seeds of independent noise of deviation 0.5 over 400 users, twice.
    error = 0.5 * (2 / USERS / SEEDS) ** 0.5
    assert (found.iid.high - found.iid.low) / 2 == pytest.approx(1.96 * error, rel=0.6)


def test_a_mean_over_parts_is_the_mean_of_its_parts() -> None:
    own, other = reported("own", (0.2, 0.3)), reported("als", (0.2, 0.1))

    def split(ood: float) -> list[UserValues]:
        users = np.arange(10)
        parts = {
            part: (users, np.full(10, mean, dtype=np.float32))
            for part, mean in (("iid", 0.2), ("ood_a", ood), ("ood_b", 0.0))
        }
        return [ndcg(parts, {"ood": ("ood_a", "ood_b")})] * SEEDS

    (found,) = comparisons(own, [other], {("own", 5, 0): split(0.6), ("als", 5, 0): split(0.2)})
    assert (found.ood.low, found.ood.high) == pytest.approx((0.2, 0.2), abs=1e-6)
    assert found.iid.low == found.iid.high == 0


def several(number: int, means: tuple[float, float]) -> list[UserValues]:
    """Users around these means, other ones in every part and under every seed."""
    found = []
    for seed in range(SEEDS):
        draws = np.random.default_rng((7, seed))
        users = {
            "iid": np.sort(draws.choice(900, 820, replace=False)),
            "ood": np.sort(draws.choice(900, 780, replace=False)),
        }
        # What a user adds is the same under every seed: so users of a wrong seed make intervals narrower.
        lead = np.random.default_rng(number).normal(0, 0.02 * (number + 1), 900)
        parts = {}
        for (part, those), mean in zip(users.items(), means, strict=True):
            noise = lead[those]
            parts[part] = (those, (mean + noise - noise.mean()).astype(np.float32))
        found.append(ndcg(parts))
    return found


def slow_interval(
    ours: list[UserValues], theirs: list[UserValues], part: str, draws: int
) -> tuple[float, float]:
    """User by user and draw by draw, with other randomness."""
    rng = np.random.default_rng(99)
    metric = f"{part}/ndcg_at_20"
    everybody = sorted({int(user) for one in ours for user in one.users[part]})
    gaps = []
    for _ in range(draws):
        times = dict.fromkeys(everybody, 0)
        for user in rng.choice(everybody, len(everybody)):
            times[int(user)] += 1
        drawn = []
        for seed in rng.integers(SEEDS, size=SEEDS):
            users = ours[seed].users[part]
            weights = np.array([times[int(user)] for user in users])
            gap = ours[seed].values[metric].astype(float) - theirs[seed].values[metric]
            drawn.append((weights * gap).sum() / weights.sum())
        gaps.append(np.mean(drawn))
    low, high = np.quantile(gaps, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.slow
def test_each_comparison_has_the_interval_of_its_own_two_points() -> None:
    ours, first, second = [(0.24, 0.08), (0.20, 0.10)], [(0.23, 0.05), (0.15, 0.09)], [(0.22, 0.06)]
    own, als, bpr = reported("own", *ours), reported("als", *first), reported("bpr", *second)
    listed = [("own", ours), ("als", first), ("bpr", second)]
    judged = {
        (name, 5, number): several(5 * place + number, mean)
        for place, (name, means) in enumerate(listed)
        for number, mean in enumerate(means)
    }
    found = comparisons(own, [als, bpr], judged)
    assert [(comparison.baseline, comparison.rival.place) for comparison in found] == [
        ("als", 0),
        ("als", 1),
        ("bpr", 0),
    ]
    for comparison in found:
        mine, other = (
            judged["own", 5, comparison.own.place],
            judged[comparison.baseline, 5, comparison.rival.place],
        )
        for part, difference in (("iid", comparison.iid), ("ood", comparison.ood)):
            low, high = slow_interval(mine, other, part, 800)
            width = high - low
            assert difference.low == pytest.approx(low, abs=0.12 * width)
            assert difference.high == pytest.approx(high, abs=0.12 * width)


def test_parts_weigh_by_the_share_of_their_own_best() -> None:
    # In plain numbers the first one is nearer, in shares of the best own ones the second.
    ours = [(0.40, 0.010), (0.345, 0.014)]
    (found,) = fought(ours, [(0.36, 0.015)])
    assert found.own.place == 1


def test_sure_on_one_part_is_not_ahead() -> None:
    own, other = reported("own", (0.60, 0.085)), reported("als", (0.20, 0.08))
    values = {("own", 5, 0): noisy(0.60, 0.085, number=0), ("als", 5, 0): noisy(0.20, 0.08, number=1)}
    (found,) = comparisons(own, [other], values)
    assert found.iid.low > 0
    assert found.ood.low < 0 < found.ood.mean
    assert found.verdict == "neither"


def test_there_is_no_comparison_without_two_sides() -> None:
    nothing = BaselineReport(name="als", summary="", skipped="needs implicit")
    assert comparisons(reported("own", (0.2, 0.3)), [nothing], {}) == ()
    assert comparisons(BaselineReport(name="own", summary=""), [reported("als", (0.2, 0.3))], {}) == ()
