"""The table of an ablation: for each row IID, OOD, their harmonic mean and the drop, beside a reference.

Every figure is a mean over seeds with its standard deviation; every difference is paired, with a 95%
bootstrap interval over seeds and users (:mod:`painvrl.stats.bootstrap`).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from painvrl.core.errors import StudyError
from painvrl.core.rng import derive_seed
from painvrl.core.tables import Block, Result, TextTable, markdown_page
from painvrl.engine.saved import SavedRun
from painvrl.evaluation.metrics import name
from painvrl.run.distributions import Value
from painvrl.run.rounds import LABEL_RECOVERY
from painvrl.stats.bootstrap import PartValues, resampled_means
from painvrl.stats.intervals import Interval, percentiles
from painvrl.study.ablation.spec import PARTS, AblationSpec

MEASURES = ("iid", "ood", "harmonic_mean", "drop")
TITLES = {"iid": "IID", "ood": "OOD", "harmonic_mean": "harmonic mean", "drop": "drop"}

_LABEL_RECOVERY_IS = (
    "; recovered: of the last round's labels, from chance, 0, to the best possible classifier, 1"
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measure of a row.

    Attributes:
        mean: over the row's seeds.
        spread: their standard deviation; ``None`` for a single seed.
        difference: to the reference; ``None`` for the reference itself, or without a seed in common.
    """

    mean: float
    spread: float | None
    difference: Interval | None


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A configuration.

    Attributes:
        label: its name, with the number of its seeds where those are not all.
        changes: the hyperparameters that it turns in the base configuration.
        seeds: those under which it is complete.
        failures: by seed why it is not, where it is not.
        figures: by metric and measure (``MEASURES``); none if no seed is complete.
        label_recovery: how much of planted environments the last round found; ``None`` without any.
    """

    name: str
    label: str
    changes: Mapping[str, Value]
    seeds: tuple[int, ...]
    failures: Mapping[int, str]
    figures: Mapping[str, Mapping[str, Figure]]
    label_recovery: Figure | None = None


@dataclass(frozen=True, kw_only=True)
class AblationTable(Result):
    """The table; its metrics are those of the valid parts."""

    ablation: str
    reference: str
    cutoff: int
    seeds: tuple[int, ...]
    draws: int
    rows: tuple[TableRow, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, ``ndcg`` for example."""
        return next((tuple(row.figures) for row in self.rows if row.figures), ())

    @property
    def planted(self) -> bool:
        """Whether the data have planted environments, and a row has looked for them."""
        return any(row.label_recovery is not None for row in self.rows)

    def blocks(self) -> Iterator[Block]:
        """The tables, one a metric, and what failed."""
        yield from map(self.text, self.metrics)
        yield from (f"failed: {failure}" for failure in self.failures())

    def text(self, metric: str) -> TextTable:
        """The table of one metric, as people read it."""
        count = f"{len(self.seeds)} seed{'s' if len(self.seeds) != 1 else ''}"
        caption = (
            f"{metric}@{self.cutoff} of the valid parts, mean and standard deviation over {count}; "
            f"differences to {self.reference} with 95% intervals "
            "(paired, crossed bootstrap over seeds and users)" + self.planted * _LABEL_RECOVERY_IS
        )
        columns = ["row", *(TITLES[measure] for measure in MEASURES), *["label recovery"] * self.planted]
        columns += [f"{TITLES[measure]} - {self.reference}" for measure in MEASURES]
        lines = []
        for row in self.rows:
            figures = row.figures.get(metric, {})
            known = [figures.get(measure) for measure in MEASURES]
            label_recovery = [_shown(row.label_recovery)] * self.planted
            lines.append([row.label, *map(_shown, known), *label_recovery, *map(_shown_difference, known)])
        return TextTable(columns=columns, rows=lines, caption=caption)

    def as_markdown(self) -> str:
        """The tables of all metrics, and what failed."""
        return markdown_page(self.ablation, map(self.text, self.metrics), self.failures())

    def failures(self) -> tuple[str, ...]:
        """A line for each run that is not complete."""
        return tuple(
            f"{row.name}, seed {seed}: {reason}" for row in self.rows for seed, reason in row.failures.items()
        )


def make_table(
    spec: AblationSpec, runs: Mapping[tuple[str, int], SavedRun], failures: Mapping[tuple[str, int], str]
) -> AblationTable:
    """The table of complete ``runs`` and of ``failures``, both by row and seed.

    Raises:
        StudyError: two runs of a seed were judged by different users.
    """
    settings = spec.ablation
    changes = spec.changes()
    seeds = {row: tuple(seed for seed in settings.seeds if (row, seed) in runs) for row in changes}
    differences = _differences(spec, runs, seeds)
    rows = []
    for row, turned in changes.items():
        complete, wanted = len(seeds[row]), len(settings.seeds)
        figures: dict[str, dict[str, Figure]] = {}
        for metric in settings.metrics if complete else ():
            by_seed = [_measures(runs[row, seed], metric, settings.cutoff) for seed in seeds[row]]
            figures[metric] = {
                measure: _figure([each[measure] for each in by_seed], differences.get((row, metric, measure)))
                for measure in MEASURES
            }
        rows.append(
            TableRow(
                name=row,
                label=row if complete == wanted else f"{row} ({complete} of {wanted} seeds)",
                changes=turned,
                seeds=seeds[row],
                failures={seed: failures[row, seed] for seed in settings.seeds if (row, seed) in failures},
                figures=figures,
                label_recovery=_label_recovery([runs[row, seed] for seed in seeds[row]]),
            )
        )
    return AblationTable(
        ablation=settings.name,
        reference=settings.reference,
        cutoff=settings.cutoff,
        seeds=settings.seeds,
        draws=settings.draws,
        rows=tuple(rows),
    )


def _figure(values: Sequence[float], difference: Interval | None = None) -> Figure:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Figure(mean=statistics.fmean(values), spread=spread, difference=difference)


def _label_recovery(runs: Sequence[SavedRun]) -> Figure | None:
    last = [run.outcome.rounds[-1] for run in runs if run.outcome.rounds]
    found = [metrics[LABEL_RECOVERY] for metrics in last if LABEL_RECOVERY in metrics]
    return _figure(found) if found else None


def _measures(run: SavedRun, metric: str, cutoff: int) -> dict[str, float]:
    iid, ood = (np.array(run.outcome.metrics[name(part, metric, cutoff)]) for part in PARTS)
    return {measure: float(value) for measure, value in _measured(iid, ood).items()}


def _measured(iid: NDArray[np.float64], ood: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    total = iid + ood
    harmonic = 2 * iid * ood / np.where(total > 0, total, 1.0)
    return dict(zip(MEASURES, (iid, ood, harmonic, iid - ood), strict=True))


def _differences(
    spec: AblationSpec, runs: Mapping[tuple[str, int], SavedRun], seeds: Mapping[str, tuple[int, ...]]
) -> dict[tuple[str, str, str], Interval]:
    """By row, metric and measure; rows with the same seeds are compared on the same draws."""
    settings = spec.ablation
    reference = settings.reference
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for row, own in seeds.items():
        common = tuple(seed for seed in own if seed in seeds[reference])
        if row != reference and common:
            groups[common].append(row)
    found = {}
    for common, rows in groups.items():
        columns = [(row, metric) for row in (reference, *rows) for metric in settings.metrics]
        values = [_parts(spec, runs, columns, seed) for seed in common]
        rng = np.random.default_rng(derive_seed(0, "bootstrap", *common))
        resampled = iter(resampled_means(values, settings.draws, rng))
        members = _members(runs[reference, common[0]])
        iid, ood = (np.mean([next(resampled) for _ in members[part]], axis=0) for part in PARTS)
        drawn = _measured(iid, ood)
        for at, (row, metric) in enumerate(columns):
            if row == reference:
                continue
            beside = columns.index((reference, metric))
            for measure in MEASURES:
                draws = drawn[measure].mean(axis=1)
                low, high = percentiles(draws[:, at] - draws[:, beside])
                mean = statistics.fmean(
                    _measures(runs[row, seed], metric, settings.cutoff)[measure]
                    - _measures(runs[reference, seed], metric, settings.cutoff)[measure]
                    for seed in common
                )
                found[row, metric, measure] = Interval(mean=mean, low=float(low), high=float(high))
    return found


def _members(run: SavedRun) -> dict[str, tuple[str, ...]]:
    """The parts behind IID and OOD: themselves, or those that they are the mean of."""
    return {part: run.means.get(part, (part,)) for part in PARTS}


def _parts(
    spec: AblationSpec,
    runs: Mapping[tuple[str, int], SavedRun],
    columns: Sequence[tuple[str, str]],
    seed: int,
) -> list[PartValues]:
    reference = runs[spec.ablation.reference, seed]
    parts = []
    for part in (member for members in _members(reference).values() for member in members):
        for row, _ in columns:
            if not np.array_equal(runs[row, seed].users[part], reference.users[part]):
                raise StudyError(
                    f"the runs of seed {seed} were judged by other users than its reference", key=row
                )
        listed = [runs[row, seed].values[name(part, metric, spec.ablation.cutoff)] for row, metric in columns]
        parts.append(
            PartValues(users=reference.users[part], values=np.stack(listed, axis=1).astype(np.float64))
        )
    return parts


def _shown(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.mean:.4f}" if figure.spread is None else f"{figure.mean:.4f} ± {figure.spread:.4f}"


def _shown_difference(figure: Figure | None) -> str:
    return "" if figure is None or figure.difference is None else f"{figure.difference:+.4f}"
