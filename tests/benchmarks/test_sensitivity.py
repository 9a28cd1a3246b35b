"""Which knob moves what."""

from __future__ import annotations

import itertools

import numpy as np
import pytest


def test_every_two_levels_of_two_knobs_meet_once_in_the_array() -> None:
    from benchmarks.sensitivity import KNOBS, L9

    assert {len(row) for row in L9} == {len(KNOBS)}
    for one, other in itertools.combinations(range(len(KNOBS)), 2):
        assert {(row[one], row[other]) for row in L9} == set(itertools.product(range(3), repeat=2))


def test_shares_of_the_variance_are_those_of_the_planted_effects() -> None:
    from benchmarks.sensitivity import L9, analysed

    levels = np.array(L9)
    effects = np.array([[-1.0, 0.0, 1.0], [2.0, -4.0, 2.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    by_seed = np.array([-0.5, 0.0, 0.25, 0.25])
    noise = np.random.default_rng(0).normal(0, 0.1, (9, 4))
    values = sum(effects[knob][levels[:, knob]] for knob in range(4))[:, None] + by_seed + noise
    shares, seeds, left = analysed(values, levels)
    total = 2 / 3 + 8 + np.var(by_seed) + 0.01
    assert shares[0].share == pytest.approx(2 / 3 / total, abs=0.01)
    assert shares[1].share == pytest.approx(8 / total, abs=0.01)
    assert seeds == pytest.approx(np.var(by_seed) / total, abs=0.01)
    assert sum(share.share for share in shares.values()) + seeds + left == pytest.approx(1)
    assert max(shares[0].p_value, shares[1].p_value) < 1e-6
    assert max(shares[2].share, shares[3].share) < 0.01


def test_a_share_is_called_noise_as_often_as_the_f_test_says() -> None:
    from benchmarks.sensitivity import L9, analysed

    draws = np.random.default_rng(1)
    found = [analysed(draws.normal(size=(9, 5)), np.array(L9))[0][2].p_value for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)
