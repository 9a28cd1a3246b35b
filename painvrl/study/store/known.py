"""What is known of a study's trials while no other process changes them.

Optuna's cache reads every unfinished trial again at every look, and one trial costs a dozen looks. With many
trials under way that would be most of what a study's process does.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from painvrl.study.store.patience import PatientStorage


@dataclass
class _Known:
    """What was read.

    Attributes:
        study: whose trials they are.
        after: trials with a larger id are all there.
        trials: by id.
        written: ids of those that have changed since.
    """

    study: int
    after: int
    trials: dict[int, FrozenTrial]
    written: set[int] = field(default_factory=set)


class StudyStorage(PatientStorage):
    """A storage that can be told to whom a study's trials belong."""

    _undisturbed = False
    _known: _Known | None = None

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """No one else ends or notes a trial meanwhile: each is read again only after it was written here.

        Others may add trials. They are seen, as new ones always are. What another program, such as a
        dashboard, writes to a trial under way is seen when the trial is written here.
        """
        before, self._undisturbed = self._undisturbed, True
        try:
            yield
        finally:
            self._undisturbed = before
            if not before:
                self._known = None

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if not self._undisturbed or states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        known = self._known
        if known is None or not _covers(known, study_id, included_trial_ids, trial_id_greater_than):
            found = super()._get_trials(study_id, None, included_trial_ids, trial_id_greater_than)
            trials = {trial._trial_id: trial for trial in found}  # noqa: SLF001 (all that Optuna has)
            self._known = _Known(study_id, trial_id_greater_than, trials)
            return found
        newest = max(known.trials, default=known.after)
        changed, known.written = known.written, set()
        try:
            found = super()._get_trials(study_id, None, changed, newest)
            known.trials |= {trial._trial_id: trial for trial in found}  # noqa: SLF001
        except BaseException:  # an interrupt, too: what was written is not known any more
            self._known = None
            raise
        wanted = (one for one in known.trials if one > trial_id_greater_than or one in included_trial_ids)
        return [known.trials[one] for one in sorted(wanted)]


def _covers(known: _Known, study: int, included: set[int], after: int) -> bool:
    return known.study == study and after >= known.after and included <= known.trials.keys()


def _noted(name: str) -> Callable[..., Any]:
    @wraps(getattr(PatientStorage, name))
    def writing(self: StudyStorage, trial_id: int, *arguments: Any, **named: Any) -> Any:
        try:
            return getattr(super(StudyStorage, self), name)(trial_id, *arguments, **named)
        finally:  # what failed may have been done
            if self._known is not None:
                self._known.written.add(trial_id)

    return writing


for _name in (
    "set_trial_state_values",
    "_set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
):
    setattr(StudyStorage, _name, _noted(_name))
