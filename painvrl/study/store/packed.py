"""What ended trials came to, packed: a study's process keeps thousands of points for as long as it runs."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Self

from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned


class Numbers(Mapping[str, float]):
    """Numbers by name, in eight bytes each: the names are kept once for all that have the same ones.

    >>> dict(Numbers({"iid/ndcg_at_20": 0.25}))
    {'iid/ndcg_at_20': 0.25}
    """

    __slots__ = ("_numbers", "_places")
    _shared: ClassVar[dict[tuple[str, ...], dict[str, int]]] = {}

    def __init__(self, numbers: Mapping[str, float]) -> None:
        names = tuple(numbers)
        if names not in self._shared:
            self._shared[names] = {name: place for place, name in enumerate(names)}
        self._places = self._shared[names]
        self._numbers = array("d", numbers.values())

    def __eq__(self, other: object) -> bool:
        """As of any mappings; but what is not a number equals itself, as it does read from one text."""
        if isinstance(other, Numbers) and self._places is other._places:
            return self._numbers == other._numbers or self._numbers.tobytes() == other._numbers.tobytes()
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, name: str) -> float:
        return self._numbers[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, float]]]:
        """The names are shared in the process that copies it or reads it, too."""
        return type(self), (dict(self),)


def packed(outcome: Outcome) -> Outcome:
    """An outcome that is equal to another, and smaller."""
    return _with(Numbers, outcome)


def unpacked(outcome: Outcome) -> Outcome:
    """An outcome that can be written down."""
    return _with(dict, outcome)


def _with(made: Callable[[Mapping[str, float]], Mapping[str, float]], outcome: Outcome) -> Outcome:
    match outcome:
        case Completed():
            return replace(
                outcome,
                metrics=made(outcome.metrics),
                first=made(outcome.first),
                points=tuple(
                    replace(point, metrics=made(point.metrics), first=made(point.first))
                    for point in outcome.points
                ),
                rounds=tuple(map(made, outcome.rounds)),
                mask_trace=tuple(map(made, outcome.mask_trace)),
            )
        case Pruned():
            return replace(outcome, metrics=made(outcome.metrics))
        case Failed():
            return outcome
