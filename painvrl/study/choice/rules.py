"""Rules that choose one trial of a front; NumPy only.

No rule's score falls where an objective rises, and ties go to the better of all objectives in turn: so
whatever values a rule is given, it never takes one that another dominates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from painvrl.core.errors import ConfigError
from painvrl.data.parts import LOEO
from painvrl.study.choice.candidates import Candidates, Column, Plane, Verdict, axes_of, scaled

_KNEE_MARGIN = 1e-9  # of the front's extent: below it a bend is rounding
_TIE = 1e-12  # of a score's size: what rounding may make of equal scores
_LARGEST = 1e100  # of a number that a rule is given: sums and quotients of larger ones overflow


class Rule(Protocol):
    """Chooses among trials. ``label`` says the rule and its numbers."""

    @property
    def label(self) -> str:
        """As the command line takes it: its name, then its numbers."""
        ...

    def choose(self, front: Candidates) -> Verdict:
        """The chosen row, and why.

        Raises:
            ConfigError: the rule asks for an objective that there is not.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A rule without a number of its own; ``label`` is its word. With one axis missing the other is taken."""

    label: str
    weigh: Callable[[Candidates, Plane], Verdict]

    def choose(self, front: Candidates) -> Verdict:
        """See :class:`Rule`."""
        plane = front.plane
        return _only_part(front) if plane is None else self.weigh(front, plane)


@dataclass(frozen=True, kw_only=True)
class BestLeftOut:
    """Take the best metric of environments that were left out of train: a choice that reads no OOD part."""

    label: str = LOEO

    def choose(self, front: Candidates) -> Verdict:
        """See :class:`Rule`."""
        name = _left_out(front, key=self.label)
        why = f"it has the best {name} {_of(front)}"
        return front.verdict(front.best(front.column(name)), why)


@dataclass(frozen=True, kw_only=True)
class MaxIidWithLoeo:
    """Take the best IID metric of the trials whose left-out metric is at least ``share`` of the best.

    It reads no OOD part, as :class:`BestLeftOut`. That takes the best of many metrics that are each measured
    on few environments, and gives IID away for a difference that may be none. This gives it for more.

    Raises:
        ConfigError: ``share`` is not within 0 and 1.
    """

    share: float

    def __post_init__(self) -> None:
        _require_share(self.share, "left-out metric", key="max-iid-with-loeo")

    @property
    def label(self) -> str:
        """See :class:`Rule`."""
        return f"max-iid-with-loeo {_percent(self.share)}"

    def choose(self, front: Candidates) -> Verdict:
        """See :class:`Rule`."""
        iid, left_out = axes_of(front.objectives).iid, _left_out(front, key="max-iid-with-loeo")
        if iid is None:
            rule = f"needs an IID objective; the study has {', '.join(front.objectives)}"
            raise ConfigError(rule, key="max-iid-with-loeo")
        return _best_above(front, iid, left_out, self.share)


@dataclass(frozen=True, kw_only=True)
class MaxOodWithIid:
    """Take the best OOD metric of the trials whose IID metric is at least ``share`` of the best.

    Raises:
        ConfigError: ``share`` is not within 0 and 1.
    """

    share: float

    def __post_init__(self) -> None:
        _require_share(self.share, "IID", key="max-ood-with-iid")

    @property
    def label(self) -> str:
        """See :class:`Rule`."""
        return f"max-ood-with-iid {_percent(self.share)}"

    def choose(self, front: Candidates) -> Verdict:
        """See :class:`Rule`."""
        plane = front.plane
        if plane is None:
            rule = f"needs an IID and an OOD objective; the study has {', '.join(front.objectives)}"
            raise ConfigError(rule, key="max-ood-with-iid")
        iid, ood = plane.names
        return _best_above(front, ood, iid, self.share)


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """Take the largest weighted sum of objectives, each scaled over the front to [0, 1].

    Raises:
        ConfigError: a weight is negative or above 1e100, or none is positive.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0 <= weight <= _LARGEST:
                rule = f"the weight of {name} must be a number of at least 0 and at most {_LARGEST:g}"
                raise ConfigError(rule, key="weights", value=weight)
        if not any(self.weights.values()):
            raise ConfigError("at least one weight must be above 0", key="weights")

    @property
    def label(self) -> str:
        """See :class:`Rule`."""
        return f"weights {_listed(self.weights)}"

    def choose(self, front: Candidates) -> Verdict:
        """See :class:`Rule`."""
        columns = _columns(front, self.weights, key="weights")
        total = math.fsum(self.weights.values())
        score = np.zeros(len(front))
        for name, weight in self.weights.items():
            score += weight * scaled(columns[name])
        place = front.best(score, tie=_TIE * total)
        terms = " + ".join(f"{weight:g} x {name}" for name, weight in self.weights.items())
        why = (
            f"it has the largest weighted sum {_of(front)}, {score[place]:.4g} of {total:g} "
            f"({terms}, each scaled to the front's range)"
        )
        return front.verdict(place, why, reported=tuple(self.weights))


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Take the trial whose worst margin over a reference point is the largest (achievement scalarisation).

    A margin is (value - reference) / the objective's range over the front. An objective without a range
    tells no trials apart and is left out. Ties go to the larger sum of margins.

    Raises:
        ConfigError: a value is beyond 1e100 in size, or there is none.
    """

    reference: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.reference:
            raise ConfigError("must name at least one objective", key="reference")
        for name, value in self.reference.items():
            if not abs(value) <= _LARGEST:
                rule = f"the value of {name} must be finite, and of a size of at most {_LARGEST:g}"
                raise ConfigError(rule, key="reference", value=value)

    @property
    def label(self) -> str:
        """See :class:`Rule`."""
        return f"reference {_listed(self.reference)}"

    def choose(self, front: Candidates) -> Verdict:
        """See :class:`Rule`."""
        columns = _columns(front, self.reference, key="reference")
        margins = [
            (columns[name] - wanted) / np.ptp(columns[name])
            for name, wanted in self.reference.items()
            if np.ptp(columns[name]) > 0
        ]
        worst = np.min(margins, axis=0) if margins else np.zeros(len(front))
        total = np.sum(margins, axis=0) if margins else worst
        reached = np.all([columns[name] >= wanted for name, wanted in self.reference.items()], axis=0)
        place = front.best(worst, reached.astype(float), total, tie=_TIE * (1 + float(np.abs(worst).max())))
        missed = [name for name, wanted in self.reference.items() if columns[name][place] < wanted]
        point = ", ".join(f"{name} {wanted:.4g}" for name, wanted in self.reference.items())
        # A trial that reached every value would have a worst margin of at least 0, and would be this one.
        end = f"no trial reaches it: this one misses {' and '.join(missed)}" if missed else "it is reached"
        why = (
            f"it has the largest worst margin {_of(front)} over the reference {point}, "
            f"{worst[place]:+.4g} of the front's range, so {end}"
        )
        return front.verdict(place, why, reported=tuple(self.reference))


def _knee(front: Candidates, plane: Plane) -> Verdict:
    """Scale both metrics to [0, 1], and take the trial farthest above the line of the front's two ends.

    The ends are the best IID and the best OOD trial. Where no trial is above the line: as ``balanced``.
    """
    height = _above_the_line(front, plane)
    if height.max() <= _KNEE_MARGIN:
        return _balanced(front, plane, "the front has no knee; ")
    iid, ood = plane.names
    why = f"it is the knee {_of(front)}: farthest above the line of its ends in {iid} and {ood}"
    return front.verdict(front.best(height, tie=_TIE), why)


def _best_iid(front: Candidates, plane: Plane) -> Verdict:
    """Take the best IID metric; ties go to the better OOD metric."""
    return front.verdict(front.best(plane.iid), f"it has the best {plane.names[0]} {_of(front)}")


def _best_ood(front: Candidates, plane: Plane) -> Verdict:
    """Take the best OOD metric; ties go to the better IID metric."""
    return front.verdict(front.best(plane.ood), f"it has the best {plane.names[1]} {_of(front)}")


def _balanced(front: Candidates, plane: Plane, before: str = "") -> Verdict:
    """Take the largest harmonic mean of the two metrics; ties go to the better IID metric."""
    total = plane.iid + plane.ood
    mean = np.divide(2 * plane.iid * plane.ood, total, out=np.zeros_like(total), where=total > 0)
    place = front.best(mean, tie=_TIE * float(mean.max()))
    iid, ood = plane.names
    why = f"{before}it has the largest harmonic mean of {iid} and {ood} {_of(front)}, {mean[place]:.4f}"
    return front.verdict(place, why)


KNEE = Preference(label="knee", weigh=_knee)

_PREFERENCES: Mapping[str, Rule] = {
    "knee": KNEE,
    "iid": Preference(label="iid", weigh=_best_iid),
    "ood": Preference(label="ood", weigh=_best_ood),
    "loeo": BestLeftOut(),
    "balanced": Preference(label="balanced", weigh=_balanced),
}
PREFERENCES = tuple(_PREFERENCES)
"""Rules without a number of their own, which a word names."""


def rule_named(word: str) -> Rule:
    """The rule of :data:`PREFERENCES` that a word names.

    Raises:
        ConfigError: it is another word.
    """
    if word not in _PREFERENCES:
        raise ConfigError(f"must be one of {', '.join(PREFERENCES)}", key="prefer", value=word)
    return _PREFERENCES[word]


def name_of(label: str) -> str:
    """The name of a rule by its label: what a pick by it is called, and the model that is trained from it.

    >>> name_of("max-ood-with-iid 90%")
    'max-ood-with-iid'
    """
    return label.partition(" ")[0]


def _require_share(share: float, of: str, *, key: str) -> None:
    if not 0 <= share <= 1:
        raise ConfigError(f"must be a share of the best {of}, such as 98% or 0.98", key=key, value=share)


def _left_out(front: Candidates, *, key: str) -> str:
    """The objective of left-out environments that rules look at: NDCG if there is one, else the first."""
    names = [name for name in front.objectives if name.startswith(f"{LOEO}/")]
    if not names:
        rule = "needs an objective loeo/... of the study, and config.evaluation.loeo: true"
        raise ConfigError(rule, key=key, value=", ".join(front.objectives))
    return next((name for name in names if "/ndcg_at_" in name), names[0])


def _best_above(front: Candidates, wanted: str, floored: str, share: float) -> Verdict:
    """The best ``wanted`` of the trials whose ``floored`` is at least ``share`` of the best."""
    column = front.column(floored)
    floor = share * float(column.max())
    allowed = column >= floor
    why = (
        f"it has the best {wanted} of the {_points(int(allowed.sum()))} on the front whose {floored} is at "
        f"least {_percent(share)} of the best, {floor:.4f}"
    )
    score = np.where(allowed, front.column(wanted), -np.inf)
    return front.verdict(front.best(score, column), why, reported=(floored,))


def _only_part(front: Candidates) -> Verdict:
    """With objectives of one part there is nothing to weigh."""
    iid, ood = axes_of(front.objectives)
    name = iid or ood or front.objectives[0]
    why = f"it has the best {name}; the study has no other part to weigh"
    return front.verdict(front.best(front.column(name)), why)


def _above_the_line(front: Candidates, plane: Plane) -> Column:
    """``[T]``: signed distance above the line of the ends, both axes scaled to [0, 1]."""
    x, y = scaled(plane.iid), scaled(plane.ood)
    right, top = front.best(plane.iid), front.best(plane.ood)
    along = np.array([x[right] - x[top], y[right] - y[top]])
    length = float(np.hypot(*along))
    if length == 0:
        return np.zeros_like(x)
    # The normal (-along_y, along_x) points up and to the right: along_x > 0 >= along_y.
    height: Column = (-along[1] * (x - x[top]) + along[0] * (y - y[top])) / length
    return height


def _columns(front: Candidates, named: Mapping[str, float], *, key: str) -> Mapping[str, Column]:
    for name in named:
        if name not in front.objectives:
            rule = f"is no objective of the study; it has {', '.join(front.objectives)}"
            raise ConfigError(rule, key=key, value=name)
    return {name: front.column(name) for name in named}


def _of(front: Candidates) -> str:
    return f"of the {_points(len(front))} on the front"


def _points(count: int) -> str:
    return f"{count} point{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.6g}%"


def _listed(numbers: Mapping[str, float]) -> str:
    return ",".join(f"{name}={number:.6g}" for name, number in numbers.items())
