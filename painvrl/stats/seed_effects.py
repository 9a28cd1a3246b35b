"""What runs under several seeds say of the candidates' true means.

The model, for candidate ``c`` under seed ``s``, all objectives at once:

    value[c, s] = mean[c] + seed[s] + residual[c, s],    residual ~ N(0, Sigma)

A split that is hard is hard for every candidate, so most of the spread between seeds is ``seed[s]``, which
the candidates share and which says nothing about who is better. ``Sigma`` is what is left, and it is pooled
over the candidates: with two to four seeds none of them could say its own. Means and seeds are fitted
together by least squares, so candidates may have been run under different numbers of seeds.

Points of one training share much of their residual, which the model does not know. So differences within a
training are better known than it says, and those between few trainings a little worse. By simulation its
decisions stay as right as they say.

Given the runs, the means are drawn from a multivariate t: for each objective alone that is the textbook's
t with ``freedom`` degrees. A bootstrap over so few seeds would be too narrow.

Shape letters: ``C`` candidates, ``S`` seeds, ``M`` objectives, ``D`` draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from painvrl.stats.intervals import Interval, t_quantile

Array = NDArray[np.float64]

_ROUNDING = 10
"""Digits, in units of an objective's largest value, beyond which a difference is rounding."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The model, fitted.

    Attributes:
        means: ``[C, M]``, averaged over all ``S`` seeds, those included under which a candidate did not run.
        seeds: ``[S, M]`` effects of the seeds; they sum to zero.
        mean_factor: ``[C, C]``; the means' own errors have the covariance ``mean_factor * Sigma``.
        seed_factor: of the spread of ``seeds``, the part in units of ``Sigma`` that is residual noise.
        residual: ``[M, M]``, the estimate of ``Sigma``; zero where ``freedom`` is.
        freedom: degrees of freedom behind it.
        scale: ``[M]``, the largest absolute value.
    """

    means: Array
    seeds: Array
    mean_factor: Array
    seed_factor: float
    residual: Array
    freedom: int
    scale: Array

    @property
    def spread(self) -> Array:
        """``[M]``: standard deviation, from seed to seed, of the difference of two candidates."""
        return np.sqrt(2 * np.diag(self.residual))


def fit(values: Array) -> Fit:
    """Fit the model by least squares.

    Args:
        values: ``[C, S, M]``; NaN where a candidate did not run under a seed. Every candidate and every seed
            has a run, and one seed has all candidates.
    """
    candidates, seeds, objectives = values.shape
    ran = ~np.isnan(values).any(axis=2)
    if not (ran.any(axis=0).all() and ran.all(axis=0).any()):
        raise ValueError("every seed needs a run, and one seed needs them all")
    who, when = np.nonzero(ran)
    observed = values[who, when]
    design = np.zeros((len(who), candidates + seeds))
    design[np.arange(len(who)), who] = 1
    design[np.arange(len(who)), candidates + when] = 1
    gram = np.linalg.pinv(design.T @ design, hermitian=True)
    solution = gram @ design.T @ observed
    # Means and seeds are known up to a constant; these rows take the one with seeds that sum to zero.
    centre = np.zeros((candidates + seeds, candidates + seeds))
    centre[:candidates, :candidates] = np.eye(candidates)
    centre[:candidates, candidates:] = 1 / seeds
    centre[candidates:, candidates:] = np.eye(seeds) - 1 / seeds
    solution, factor = centre @ solution, centre @ gram @ centre.T
    freedom = len(who) - (candidates + seeds - 1)
    left = observed - design @ solution
    residual = left.T @ left / freedom if freedom > 0 else np.zeros((objectives, objectives))
    return Fit(
        means=solution[:candidates],
        seeds=solution[candidates:],
        mean_factor=factor[:candidates, :candidates],
        seed_factor=float(np.trace(factor[candidates:, candidates:])) / max(seeds - 1, 1),
        residual=residual,
        freedom=freedom,
        scale=np.abs(observed).max(axis=0),
    )


def draw_means(fitted: Fit, draws: int, rng: np.random.Generator) -> Array:
    """``[D, C, M]``: draws of the means given the runs, up to a shift that all candidates share.

    Such a shift (how hard the seeds were) does not change who dominates whom. With little data the
    correlations between objectives are shrunk towards zero. Differences that are rounding are ties.

    Args:
        fitted: with ``freedom`` above zero, unless it has a single candidate.
        draws: ``D``.
        rng: draws them.
    """
    candidates, objectives = fitted.means.shape
    if fitted.freedom <= 0:
        if candidates > 1:
            raise ValueError("several candidates need two seeds")
        return np.repeat(fitted.means[None], draws, axis=0)
    deviation = np.sqrt(np.diag(fitted.residual))
    divisible = np.where(deviation > 0, deviation, 1.0)
    shrinkage = objectives / (objectives + fitted.freedom)
    correlation = (1 - shrinkage) * fitted.residual / np.outer(divisible, divisible)
    np.fill_diagonal(correlation, 1.0)
    normal = rng.standard_normal((draws, candidates, objectives))
    noise = _root(fitted.mean_factor) @ normal @ _root(correlation) * deviation
    # One divisor a draw: the residual's size is uncertain for all candidates and objectives alike.
    divisor = np.sqrt(rng.chisquare(fitted.freedom, size=draws) / fitted.freedom)
    means = fitted.means + noise / divisor[:, None, None]
    scale = np.where(fitted.scale > 0, fitted.scale, 1.0)
    return np.round(means / scale, _ROUNDING) * scale


def estimate(fitted: Fit, weights: Array, objective: int) -> Interval:
    """The weighted mean of the candidates' means with its 95% interval over new seeds.

    Its error is that of the seeds' own effects, which all candidates share, and that of the residuals; the
    degrees of freedom of their sum are Satterthwaite's.

    Args:
        fitted: the model, of two seeds or more.
        weights: ``[C]``, sum one.
        objective: its place.
    """
    mean = float(weights @ fitted.means[:, objective])
    seeds = len(fitted.seeds)
    of_seeds = float(fitted.seeds[:, objective].var(ddof=1)) / seeds
    # The seeds' measured spread holds some of the residual noise already; only the rest is added.
    factor = max(0.0, float(weights @ fitted.mean_factor @ weights) - fitted.seed_factor / seeds)
    of_residuals = factor * float(fitted.residual[objective, objective])
    variance = of_seeds + of_residuals
    if variance == 0:
        return Interval(mean=mean, low=mean, high=mean)
    inverse = of_seeds**2 / (seeds - 1) + of_residuals**2 / max(fitted.freedom, 1)
    margin = t_quantile(0.975, variance**2 / inverse) * float(np.sqrt(variance))
    return Interval(mean=mean, low=mean - margin, high=mean + margin)


def _root(covariance: Array) -> Array:
    """The symmetric root; of a singular matrix too, whose rounding may be negative."""
    values, vectors = np.linalg.eigh(covariance)
    root: Array = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root
