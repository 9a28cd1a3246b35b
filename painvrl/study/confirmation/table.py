"""What a confirmation came to: figures of every candidate, the confirmed front, the first one's optimism."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from painvrl.core.tables import Block, Result, TextTable, markdown_page
from painvrl.stats.dominance import hypervolume
from painvrl.stats.intervals import Interval
from painvrl.stats.seed_effects import Fit, estimate
from painvrl.study.confirmation.candidates import Candidate
from painvrl.study.confirmation.decision import Decision

_ORDER = (Decision.IN, Decision.UNDECIDED, Decision.OUT, Decision.FAILED)


@dataclass(frozen=True, kw_only=True)
class Estimate(Interval):
    """An objective of a candidate: its mean over fresh seeds with the 95% interval.

    Attributes:
        first: what the study measured.
        optimism: ``first - mean``.
    """

    first: float
    optimism: float


@dataclass(frozen=True, kw_only=True)
class CandidateRow:
    """A candidate.

    Attributes:
        trial: the number of its trial.
        name: of the point: ``12``, or ``12.3`` of a swept trial.
        also: names of later points of the same configuration.
        source: ``front``, or ``near`` for a dominated point that joined.
        probability: of being on the front; ``None`` if its training failed.
        reason: why that failed.
        seeds: under how many fresh seeds it is complete.
        estimates: by objective; none if its training failed.
    """

    trial: int
    name: str
    also: tuple[str, ...]
    preset: str | None
    source: str
    probability: float | None
    decision: str
    reason: str | None
    seeds: int
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Confirmation(Result):
    """A confirmed front.

    Attributes:
        sure: the probability at which a candidate is decided.
        first_seeds: the study's own, which chose the front and are part of no mean.
        seeds: the fresh ones that were used.
        seeds_at_most: that could have been.
        rows: the candidates, those decided in first.
        front: names of the points that are decided in.
        optimism: by objective how much too high the first front's values were, in the mean of its points;
            none if all its trainings failed. Its interval, of 95%, is paired: the points' differences
            under a fresh seed are taken together.
        first_hypervolume: of the first front, as the study measured it.
        hypervolume: of the means of the same points. Those whose training failed are in neither.
        left_out: dominated points as near as those that joined, but too many.
        runs: trainings that were needed; one serves all points of its trial. runs_for_all: under
            ``seeds_at_most`` seeds for every candidate.
    """

    study: str
    objectives: tuple[str, ...]
    sure: float
    first_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    seeds_at_most: int
    rows: tuple[CandidateRow, ...]
    front: tuple[str, ...]
    optimism: Mapping[str, Interval]
    first_hypervolume: float
    hypervolume: float
    left_out: int
    runs: int
    runs_for_all: int

    def blocks(self) -> Iterator[Block]:
        """The candidates, what was measured first, and the confirmed front."""
        yield from (table for table in self.tables() if table.rows)
        yield from self.sentences()

    def of(self, decision: Decision) -> tuple[str, ...]:
        """Names of the points with this decision."""
        return tuple(row.name for row in self.rows if row.decision == decision)

    def tables(self) -> tuple[TextTable, TextTable]:
        """The candidates' means as people read them; what the study measured, and how optimistic it was."""
        means = [
            [
                _name(row),
                "-" if row.probability is None else f"{row.probability:.3f}",
                row.decision,
                str(row.seeds),
                *(_shown(row.estimates.get(name)) for name in self.objectives),
            ]
            for row in self.rows
        ]
        measured = [
            [
                _name(row),
                "on the front" if row.source == "front" else "near it",
                *(f"{each.first:.4f} ({each.optimism:+z.4f})" for each in row.estimates.values()),
            ]
            for row in self.rows
            if row.estimates
        ]
        first = _seeds(self.first_seeds)
        return (
            TextTable(
                columns=["trial", "P(front)", "decision", "seeds", *self.objectives],
                rows=means,
                caption=f"{self.study}: mean and half of its 95% interval, valid parts, seeds "
                f"{_range(self.seeds)} (the front was chosen with {first}, not among them)",
            ),
            TextTable(
                columns=["trial", "was", *self.objectives],
                rows=measured,
                caption=f"what {first} had measured, and by how much that is above the mean",
            ),
        )

    def sentences(self) -> tuple[str, ...]:
        """What to read below the tables, a line each."""
        lines = [f"confirmed front (P >= {self.sure:g}): {', '.join(self.front) or 'no point'}"]
        if undecided := self.of(Decision.UNDECIDED):
            lines.append(f"undecided after {self.seeds_at_most} seeds: {', '.join(undecided)}")
        failed = {row.trial: row.reason for row in self.rows if row.reason is not None}
        lines += [
            f"trial {trial} failed ({reason}); it is not on the confirmed front"
            for trial, reason in failed.items()
        ]
        if self.left_out:
            lines.append(f"dominated points near the front that were too many and left out: {self.left_out}")
        for name, each in self.optimism.items():
            lines.append(f"optimism of the first front, {name}: {each:+z.4f} in the mean of its points")
        if self.optimism:
            share = self.first_hypervolume / self.hypervolume - 1 if self.hypervolume > 0 else 0.0
            lines.append(
                f"hypervolume of the first front: {self.first_hypervolume:.4g} when it was chosen, "
                f"{self.hypervolume:.4g} by the means of the same points ({share:+.1%})"
            )
        lines.append(
            f"{self.runs} runs; {self.seeds_at_most} seeds for every candidate are {self.runs_for_all}"
        )
        return tuple(lines)

    def as_markdown(self) -> str:
        """The tables and what to read below them."""
        return markdown_page(f"Confirmation of {self.study}", self.tables(), self.sentences())


def rows_of(
    objectives: Sequence[str],
    candidates: Sequence[Candidate],
    fitted: Fit,
    seeds: Sequence[int],
    probability: Sequence[float],
    decisions: Sequence[Decision],
    failed: Sequence[tuple[Candidate, str, int]],
) -> tuple[CandidateRow, ...]:
    """The rows of a confirmation: those decided in come first, of these the best first objective.

    Args:
        objectives: their names.
        candidates: ``C`` that did not fail, in the order of the arguments that follow.
        fitted: the model of all their runs.
        seeds: under how many seeds each has run.
        probability: of each to be on the front.
        decisions: on each.
        failed: other candidates, why they failed, and under how many seeds they are complete.
    """
    rows = []
    for place, candidate in enumerate(candidates):
        weights = np.eye(len(candidates))[place]
        estimates = {}
        for at, name in enumerate(objectives):
            known, first = estimate(fitted, weights, at), candidate.first[at]
            estimates[name] = Estimate(**vars(known), first=first, optimism=first - known.mean)
        rows.append(_row(candidate, decisions[place], seeds[place], float(probability[place]), estimates))
    rows += [_row(candidate, Decision.FAILED, ran, None, {}, reason) for candidate, reason, ran in failed]

    def place_of(row: CandidateRow) -> tuple[int, float, int]:
        best = row.estimates[objectives[0]].mean if row.estimates else 0.0
        return _ORDER.index(Decision(row.decision)), -best, row.trial

    return tuple(sorted(rows, key=place_of))  # stable: the points of a trial stay as they come


def optimism_of(
    objectives: Sequence[str], candidates: Sequence[Candidate], fitted: Fit
) -> tuple[Mapping[str, Interval], float, float]:
    """The optimism of the first front by objective, its hypervolume as measured, and that of the means.

    Args:
        objectives: their names.
        candidates: ``C`` that did not fail, in the order of ``fitted``.
        fitted: the model of all their runs.
    """
    mine = np.array([candidate.source == "front" for candidate in candidates])
    if not mine.any():
        return {}, 0.0, 0.0
    first: NDArray[np.float64] = np.array([candidate.first for candidate in candidates])[mine]
    weights = mine / mine.sum()
    found = {}
    for at, name in enumerate(objectives):
        known, before = estimate(fitted, weights, at), float(first[:, at].mean())
        found[name] = Interval(mean=before - known.mean, low=before - known.high, high=before - known.low)
    return found, hypervolume(first), hypervolume(fitted.means[mine])


def _row(
    candidate: Candidate,
    decision: Decision,
    seeds: int,
    probability: float | None,
    estimates: Mapping[str, Estimate],
    reason: str | None = None,
) -> CandidateRow:
    return CandidateRow(
        trial=candidate.trial,
        name=candidate.name,
        also=candidate.also,
        preset=candidate.preset,
        source=candidate.source,
        probability=probability,
        decision=decision.value,
        reason=reason,
        seeds=int(seeds),
        estimates=estimates,
    )


def _name(row: CandidateRow) -> str:
    also = f" (= {', '.join(row.also)})" if row.also else ""
    return f"{row.name}{also}{'' if row.preset is None else f' {row.preset}'}"


def _shown(figure: Estimate | None) -> str:
    return "-" if figure is None else f"{figure.mean:z.4f} ± {(figure.high - figure.low) / 2:.4f}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {_range(seeds)}"


def _range(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else ", ".join(map(str, seeds))
