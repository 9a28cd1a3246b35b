"""The search space: which knobs of a configuration a study turns, how far, and when."""

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
from painvrl.run.hyperparameters import Point, after_training, knobs, leaves

Leaves: TypeAlias = Mapping[str, Value]
"""Every scalar of a configuration by its path, what all trials share included."""


class Space(RootModel[dict[str, Distribution]]):
    """Distributions by the path of the knob that they turn."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)
    root: dict[str, Distribution] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_no_circle(self) -> Self:
        self.order()
        return self

    def order(self) -> tuple[str, ...]:
        """The knobs as they stand in the file, but each behind those that it hangs on.

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
        """The knobs that are searched after each training: those that act then and that no other hangs on."""
        parents = {other for knob in self.root.values() for other in knob.when}
        return {
            path: knob
            for path, knob in self.root.items()
            if path in after_training() and path not in parents and not isinstance(knob, Fixed)
        }

    def swept_in(self, config: TrainConfig) -> dict[str, Distribution]:
        """Those of :meth:`swept` that are searched after a training of ``config``."""
        known = leaves(config)
        return {
            path: knob
            for path, knob in self.swept().items()
            if path in known and self.is_active(path, {}, known)
        }

    def without(self, paths: Container[str]) -> Space:
        """The space of the other knobs; perhaps of none."""
        return Space.model_construct(
            root={path: knob for path, knob in self.root.items() if path not in paths}
        )

    def is_active(self, path: str, chosen: Point, base: Leaves) -> bool:
        """Whether a knob is searched in a trial.

        Args:
            path: of the knob.
            chosen: values of the trial's knobs before it in :meth:`order`.
            base: the base configuration's leaves: what a knob has that is not searched in the trial.
        """
        for other, allowed in self.root[path].conditions().items():
            known = chosen if other in chosen else base
            if other not in known or not any(same(known[other], one) for one in allowed):
                return False
        return True

    def suggest(self, trial: Suggester, base: TrainConfig) -> dict[str, Value]:
        """A point, as the sampler behind ``trial`` wants it; knobs whose condition fails are left out."""
        return self.chosen(base, lambda path: self.root[path].suggest(trial, path))

    def chosen(self, base: TrainConfig, choose: Callable[[str], Value]) -> dict[str, Value]:
        """A point of the values that ``choose`` gives knobs; those whose condition fails are left out."""
        known = leaves(base)
        point: dict[str, Value] = {}
        for path in self.order():
            if self.is_active(path, point, known):
                point[path] = choose(path)
        return point

    def points(self, base: TrainConfig) -> Iterator[dict[str, Value]]:
        """All points of a discrete space, as :meth:`suggest` gives them; the last knob turns fastest."""
        return self._grid(self.searched(base), leaves(base), {})

    def _grid(self, paths: Sequence[str], base: Leaves, point: Point) -> Iterator[dict[str, Value]]:
        """``point`` with every value of the discrete knobs ``paths``, which are in :meth:`order`."""
        if not paths:
            yield dict(point)
        elif not self.is_active(paths[0], point, base):
            yield from self._grid(paths[1:], base, point)
        else:
            for value in self.root[paths[0]].values():
                yield from self._grid(paths[1:], base, {**point, paths[0]: value})

    def turned(self, config: TrainConfig) -> frozenset[tuple[str, Value]]:
        """All that trials of the space may differ in, as ``config`` has it: equal for equal trainings.

        Knobs outside the space are in it, too: presets turn them.
        """
        values = knobs(config)
        for path, knob in self.root.items():
            value = values.get(path)
            if isinstance(knob, FloatRange) and isinstance(value, int | float) and knob.contains(value):
                values[path] = knob.rounded(value)
        return frozenset(values.items())

    def point_of(self, config: TrainConfig) -> dict[str, Value]:
        """The values that ``config`` gives the knobs.

        Without those that lie outside the space, and without knobs whose condition hangs on such a
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
        """Whether some trial at ``chosen``, which need not name every knob, searches the knob."""
        for other, allowed in self.root[path].conditions().items():
            if other not in chosen and other in self.root and self.may_be_active(other, chosen, base):
                continue
            known = chosen if other in chosen else base
            if other not in known or not any(same(known[other], one) for one in allowed):
                return False
        return True

    def searched(self, base: TrainConfig) -> tuple[str, ...]:
        """The knobs that some trial searches: all but those whose condition the config decides against."""
        known = leaves(base)
        return tuple(path for path in self.order() if self.may_be_active(path, {}, known))

    def conditional(self, base: TrainConfig) -> dict[str, str]:
        """The knobs that are searched in some trials and not in others, each with one that it hangs on."""
        hangs = {path: [other for other in self.root[path].when if other in self.root] for path in self.root}
        return {path: hangs[path][0] for path in self.searched(base) if hangs[path]}

    def fixed(self, base: TrainConfig) -> dict[str, Value]:
        """The knobs that are fixed without a condition, and those whose condition the config decides."""
        known = leaves(base)
        return {
            path: knob.value
            for path, knob in self.root.items()
            if isinstance(knob, Fixed)
            and not any(other in self.root for other in knob.when)
            and self.is_active(path, {}, known)
        }

    def contexts(self, path: str) -> Iterator[dict[str, Value]]:
        """Values of other knobs of the space with which a knob is searched, one for each way."""
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
        """How many points the space has; infinite where a knob that may be searched is continuous."""
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
