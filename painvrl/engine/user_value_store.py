"""What each user of the valid parts has got from a trial: taken, kept in a file, found again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from painvrl.core.renamed import with_new_names
from painvrl.data.cache import ArrayCache, pack_text, unpack_text
from painvrl.engine.seeds import users_of_all
from painvrl.engine.training import TrainedJob, UnderSeed
from painvrl.evaluation.ranking import judged_users
from painvrl.evaluation.user_values import UserValues, values_of
from painvrl.model.fusion import WeighedScores

_MEANS = TypeAdapter(Mapping[str, tuple[str, ...]])
_MEAN_PARTS, _USERS, _VALUES = "means", "users/", "values/"

MAX_USERS = 200_000
"""Users of the parts together (a user of two parts counts twice) up to whom a trial's values are kept.

A trial takes 4 bytes a user, and as many for each point and each objective of the user's part; so much again
for each further seed. For 660 users in two parts, two objectives each and one point that is 18 kB, at this
limit 2.4 MB; with sixteen points 180 kB and 26 MB. With so many users the noise that they add to a front is
far below that of the search, so nothing is lost by leaving them out.
"""


def user_values(trained: UnderSeed, metrics: Collection[str]) -> UserValues:
    """What each user has got from the trained configuration: they are scored once more.

    Args:
        trained: a completed job under one of its seeds.
        metrics: full names; of a mean over parts those of its parts are taken.
    """
    result, plan = trained.result, trained.prepared.valid_plan
    (judged,) = judged_users(plan, WeighedScores(result.parts, [result.config.fusion]))
    return values_of(plan, judged, metrics)


def to_arrays(kept: UserValues) -> dict[str, np.ndarray]:
    """The values as named arrays, for a file."""
    users = {f"{_USERS}{part}": array.astype(np.int32) for part, array in kept.users.items()}
    values = {f"{_VALUES}{full}": array for full, array in kept.values.items()}
    return {_MEAN_PARTS: pack_text(dict(kept.means)), **users, **values}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> UserValues | None:
    """The inverse of :func:`to_arrays`; ``None`` if these are other arrays."""
    if _MEAN_PARTS not in arrays:
        return None
    try:
        means = _MEANS.validate_python(unpack_text(arrays[_MEAN_PARTS]))
    except ValueError:
        return None
    return UserValues(
        users={part: array.astype(np.int64) for part, array in _under(_USERS, arrays)},
        values=with_new_names(dict(_under(_VALUES, arrays))),  # of earlier versions, too
        means=with_new_names(means),
    )


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for key, array in arrays.items():
        if key.startswith(prefix):
            yield key.removeprefix(prefix), array


@dataclass(frozen=True)
class UserStore:
    """The values of one study's points: ``folder/TRIAL.npz``, one file for all points of a trial."""

    folder: Path

    def store(self, trial: int, kept: UserValues | Sequence[UserValues]) -> None:
        """Write a trial's values; a reader sees all of them or nothing.

        Args:
            trial: its number.
            kept: of its one point, or of the points of a swept trial, who share their users.

        Raises:
            PlaceError: the folder cannot be written.
        """
        if isinstance(kept, UserValues):
            arrays = to_arrays(kept)
        else:
            each = [to_arrays(one) for one in kept]
            arrays = {
                key: np.stack([one[key] for one in each]) if key.startswith(_VALUES) else array
                for key, array in each[0].items()
            }
        ArrayCache(self.folder).store(str(trial), arrays)

    def take_over(self, trial: int, other: UserStore, number: int) -> None:
        """Keep what trial ``number`` of another study has, if it has anything, as that of ``trial``.

        Raises:
            PlaceError: the folder cannot be written.
        """
        arrays = ArrayCache(other.folder).load(str(number))
        if arrays is not None:
            ArrayCache(self.folder).store(str(trial), arrays)

    def load(self, point: str, objectives: Mapping[str, float]) -> UserValues | None:
        """A point's values; ``None`` if there are none, or only a damaged file or that of another point.

        Args:
            point: its name.
            objectives: what the point reached; the values are its own only if their means say so.
        """
        (found,) = self.load_each([(point, objectives)])
        return found

    def load_each(self, points: Iterable[tuple[str, Mapping[str, float]]]) -> Iterator[UserValues | None]:
        """The values of many points, as of :meth:`load`; points of one trial in a row share one reading."""
        for trial, members in groupby(points, key=lambda one: one[0].partition(".")[0]):
            arrays = ArrayCache(self.folder).load(trial)
            for point, objectives in members:
                kept = None if arrays is None else from_arrays(_of_point(arrays, point.partition(".")[2]))
                is_its_own = kept is not None and all(_means(kept, *mean) for mean in objectives.items())
                yield kept if is_its_own else None


def _of_point(arrays: Mapping[str, np.ndarray], place: str) -> dict[str, np.ndarray]:
    """The arrays of one point of a swept trial, or of the trial where ``place`` is empty; else none."""
    values = {key: array for key, array in arrays.items() if key.startswith(_VALUES)}
    if not place:
        return dict(arrays) if all(array.ndim == 1 for array in values.values()) else {}
    if any(array.ndim == 1 or int(place) >= len(array) for array in values.values()):
        return {}
    return {**arrays, **{key: array[int(place)] for key, array in values.items()}}


_ROUNDING = 1e-5
"""A mean of float32 values is off by less than this share of it."""


def _means(kept: UserValues, metric: str, value: float) -> bool:
    columns = [kept.values.get(full) for full in kept.parts_of(metric)]
    present = [column for column in columns if column is not None and len(column)]
    if len(present) < len(columns) or any(full.partition("/")[0] not in kept.users for full in kept.values):
        return False
    mean = float(np.mean([column.mean(dtype=np.float64) for column in present]))
    return abs(mean - value) <= _ROUNDING * max(abs(value), _ROUNDING)


@dataclass(frozen=True, kw_only=True)
class SaveUserValues:
    """Stores each user's objectives of a trial, in the process that trained it.

    Attributes:
        folder: of all studies; a trial's study is the key of its job.
        objectives: full names.
        max_users: beyond, nothing is kept; see :data:`MAX_USERS`.
    """

    folder: Path
    objectives: Sequence[str]
    max_users: int = MAX_USERS

    def __call__(self, trained: TrainedJob) -> None:
        """Write the values under the trial's number. Whatever goes wrong, it costs no trial."""
        if any(
            sum(len(part.users) for part in run.prepared.valid_plan.parts) > self.max_users
            for run in trained.under
        ):
            return
        try:
            store = UserStore(self.folder / trained.job.key)
            points = [
                users_of_all([one.users for one in point])
                for point in zip(*(run.scored for run in trained.under), strict=True)
            ]
            own = points or users_of_all([user_values(run, self.objectives) for run in trained.under])
            store.store(trained.job.number, own)
        except Exception:  # noqa: BLE001 (a full disk or, as all users are scored again, a full device)
            # The trial is worth more than this by-product, and what compares studies says what is missing.
            return
