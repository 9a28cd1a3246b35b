"""The search space: which hyperparameters of a configuration a study turns, how far, and when."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import ClassVar, Self, TypeAlias

from pydantic import ConfigDict, Field, RootModel, model_validator

from painvrl.run.config import TrainConfig
from painvrl.run.distributions import (
    Distribution,
    Fixed,
    FloatRange,
    Suggester,
    Value,
    same,
)
from painvrl.run.hyperparameters import Point, after_training, hyperparameters, leaves

Leaves: TypeAlias = Mapping[str, Value]
"""Every scalar of a configuration by its path, what all trials share included."""


class Space(RootModel[dict[str, Distribution]]):
    """Distributions by the path of the hyperparameter that they turn."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)
    root: dict[str, Distribution] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_no_circle(self) -> Self:
        self.order()
        return self

    def order(self) -> tuple[str, ...]:
        """The hyperparameters as they stand in the file, but each behind those that it hangs on.

        Raises:
            ValueError: conditions that wait for each other.
        """
        ordered: dict[str, None] = {}

        def visit(path: str, above: tuple[str, ...]) -> None:
            if path in above:
                circle = " -> ".join((*above[above.index(path) :], path))
                raise ValueError(f"conditions must not wait for each other (found {circle})")
            if path in ordered or path not in self.root:
                return
            for other in self.root[path].when:
                visit(other, (*above, path))
            ordered[path] = None

        for path in self.root:
            visit(path, ())
        return tuple(ordered)

    def swept(self) -> dict[str, Distribution]:
        """Those that are searched after each training: they act then, and no other depends on them."""
        parents = {other for hyperparameter in self.root.values() for other in hyperparameter.when}
        return {
            path: hyperparameter
            for path, hyperparameter in self.root.items()
            if path in after_training() and path not in parents and not isinstance(hyperparameter, Fixed)
        }

    def swept_in(self, config: TrainConfig) -> dict[str, Distribution]:
        """Those of :meth:`swept` that are searched after a training of ``config``."""
        known = leaves(config)
        return {
            path: hyperparameter
            for path, hyperparameter in self.swept().items()
            if path in known and self.is_active(path, {}, known)
        }

    def without(self, paths: Container[str]) -> Space:
        """The space of the other hyperparameters; perhaps of none."""
        return Space.model_construct(
            root={path: hyperparameter for path, hyperparameter in self.root.items() if path not in paths}
        )

    def is_active(self, path: str, chosen: Point, base: Leaves) -> bool:
        """Whether a hyperparameter is searched in a trial.

        Args:
            path: of the hyperparameter.
            chosen: values of the trial's hyperparameters before it in :meth:`order`.
            base: the base configuration's leaves: what a hyperparameter has that is not searched in the
                trial.
        """
        for other, allowed in self.root[path].conditions().items():
            known = chosen if other in chosen else base
            if other not in known or not any(same(known[other], one) for one in allowed):
                return False
        return True

    def suggest(self, trial: Suggester, base: TrainConfig) -> dict[str, Value]:
        """A point, as the sampler behind ``trial`` wants it, without those whose condition fails."""
        return self.chosen(base, lambda path: self.root[path].suggest(trial, path))

    def chosen(self, base: TrainConfig, choose: Callable[[str], Value]) -> dict[str, Value]:
        """A point of the values that ``choose`` gives, without those whose condition fails."""
        known = leaves(base)
        point: dict[str, Value] = {}
        for path in self.order():
            if self.is_active(path, point, known):
                point[path] = choose(path)
        return point

    def points(self, base: TrainConfig) -> Iterator[dict[str, Value]]:
        """All points of a discrete space, as :meth:`suggest` gives them; the last one turns fastest."""
        return self._grid(self.searched(base), leaves(base), {})

    def _grid(self, paths: Sequence[str], base: Leaves, point: Point) -> Iterator[dict[str, Value]]:
        """``point`` with every value of the discrete ``paths``, which are in :meth:`order`."""
        if not paths:
            yield dict(point)
        elif not self.is_active(paths[0], point, base):
            yield from self._grid(paths[1:], base, point)
        else:
            for value in self.root[paths[0]].values():
                yield from self._grid(paths[1:], base, {**point, paths[0]: value})

    def turned(self, config: TrainConfig) -> frozenset[tuple[str, Value]]:
        """All that trials of the space may differ in, as ``config`` has it: equal for equal trainings.

        Hyperparameters outside the space are in it, too: presets turn them.
        """
        values = hyperparameters(config)
        for path, hyperparameter in self.root.items():
            value = values.get(path)
            if (
                isinstance(hyperparameter, FloatRange)
                and isinstance(value, int | float)
                and hyperparameter.contains(value)
            ):
                values[path] = hyperparameter.rounded(value)
        return frozenset(values.items())

    def point_of(self, config: TrainConfig) -> dict[str, Value]:
        """The values that ``config`` gives the hyperparameters.

        Without those that lie outside the space, and without hyperparameters whose condition hangs on such a
        one, or fails.
        """
        known = leaves(config)
        point: dict[str, Value] = {}
        for path in self.order():
            undecided = any(
                other in self.root and other not in point and self.may_be_active(other, point, known)
                for other in self.root[path].when
            )
            if undecided or not self.is_active(path, point, known):
                continue
            if path in known and self.root[path].contains(known[path]):
                point[path] = known[path]
        return point

    def may_be_active(self, path: str, chosen: Point, base: Leaves) -> bool:
        """Whether some trial at ``chosen``, which may be a part of a point, searches the hyperparameter."""
        for other, allowed in self.root[path].conditions().items():
            if other not in chosen and other in self.root and self.may_be_active(other, chosen, base):
                continue
            known = chosen if other in chosen else base
            if other not in known or not any(same(known[other], one) for one in allowed):
                return False
        return True

    def searched(self, base: TrainConfig) -> tuple[str, ...]:
        """Those that some trial searches: all but those whose condition the config decides against."""
        known = leaves(base)
        return tuple(path for path in self.order() if self.may_be_active(path, {}, known))

    def conditional(self, base: TrainConfig) -> dict[str, str]:
        """Those that are searched in some trials only, each with one that it depends on."""
        hangs = {path: [other for other in self.root[path].when if other in self.root] for path in self.root}
        return {path: hangs[path][0] for path in self.searched(base) if hangs[path]}

    def fixed(self, base: TrainConfig) -> dict[str, Value]:
        """Those that are fixed without a condition, and those whose condition the config decides."""
        known = leaves(base)
        return {
            path: hyperparameter.value
            for path, hyperparameter in self.root.items()
            if isinstance(hyperparameter, Fixed)
            and not any(other in self.root for other in hyperparameter.when)
            and self.is_active(path, {}, known)
        }

    def contexts(self, path: str) -> Iterator[dict[str, Value]]:
        """Values of the others with which a hyperparameter is searched, one for each way."""
        ways = [
            [{other: value, **above} for value in allowed for above in self.contexts(other)]
            for other, allowed in self.root[path].conditions().items()
            if other in self.root
        ]
        for parts in itertools.product(*ways):
            together: dict[str, Value] = {}
            for part in parts:
                shared = together.keys() & part.keys()
                if not all(same(together[other], part[other]) for other in shared):
                    break
                together |= part
            else:
                yield together

    def size(self, base: TrainConfig) -> float:
        """How many points the space has; infinite where one that may be searched is continuous."""
        known = leaves(base)
        searched = self.searched(base)
        counts = {path: self.root[path].count() for path in searched}
        if math.inf in counts.values():
            return math.inf
        hung_on = {other for path in searched for other in self.root[path].when}
        parents = [path for path in searched if path in hung_on]
        others = [path for path in searched if path not in hung_on]
        return sum(
            math.prod(int(counts[path]) for path in others if self.is_active(path, point, known))
            for point in self._grid(parents, known, {})
        )
