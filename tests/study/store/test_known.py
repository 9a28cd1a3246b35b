"""Trials that nobody else changes: read as if they were read at every look."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from painvrl.study.store.database import connect
from painvrl.study.store.patience import PatientStorage

SPACE = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}


def _study(folder: Path) -> optuna.Study:
    return optuna.create_study(
        study_name="known",
        storage=connect(f"sqlite:///{folder}/optuna.db"),
        directions=["maximize", "maximize"],
    )


def _backend(study: optuna.Study) -> Any:
    return study._storage._backend  # type: ignore[attr-defined]


def _as_read_anew(study: optuna.Study) -> list[dict[str, Any]]:
    fresh = optuna.load_study(study_name="known", storage=_backend(study).url)
    return [_shown(trial) for trial in fresh.get_trials()]


def _shown(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {name: value for name, value in vars(trial).items() if name != "_distributions"}


ACTS: dict[str, Callable[[optuna.Study, list[optuna.Trial]], None]] = {
    "ask": lambda study, running: running.append(study.ask()),
    "queue": lambda study, running: study.enqueue_trial({"x": 0.5}, user_attrs={"why": "queued"}),
    "suggest": lambda study, running: None if not running else _suggest(running[0]),
    "note": lambda study, running: None if not running else running[-1].set_user_attr("noted", len(running)),
    "system": lambda study, running: None if not running else _bounded(running[0]),
    "tell": lambda study, running: None if not running else _told(study, running.pop(0)),
    "fail": lambda study, running: None if not running else _failed(study, running.pop()),
    "add": lambda study, running: study.add_trial(create_trial(values=[1.0, 2.0])),
}


_bounds = itertools.count()


def _bounded(trial: optuna.Trial) -> None:
    trial.set_constraint(f"limit {next(_bounds)}", 1.0)  # a second one of a name is refused


def _suggest(trial: optuna.Trial) -> None:
    trial.suggest_float("x", 0.0, 1.0)


def _told(study: optuna.Study, trial: optuna.Trial) -> None:
    study.tell(trial, [0.1, 0.2])


def _failed(study: optuna.Study, trial: optuna.Trial) -> None:
    study.tell(trial, state=TrialState.FAIL)


@settings(max_examples=6, deadline=None)
@given(acts=st.lists(st.sampled_from(sorted(ACTS)), min_size=4, max_size=14))
def test_what_is_known_is_what_would_be_read(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    study = _study(tmp_path_factory.mktemp("known"))
    running: list[optuna.Trial] = []
    with _backend(study).undisturbed():
        for act in acts:
            ACTS[act](study, running)
            assert [_shown(trial) for trial in study.get_trials()] == _as_read_anew(study)


def test_a_trial_is_read_once_until_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = _study(tmp_path)
    running = [study.ask() for _ in range(5)]
    read: list[int] = []
    of_storage = PatientStorage._get_trials

    def counted(*arguments: Any) -> list[Any]:
        found = of_storage(*arguments)
        read.append(len(found))
        return found

    monkeypatch.setattr(PatientStorage, "_get_trials", counted)
    with _backend(study).undisturbed():
        for _ in range(3):
            study.get_trials()
        running[2].set_user_attr("noted", 1)
        study.get_trials()
    study.get_trials()
    assert read == [5, 0, 0, 1, 5]


def test_trials_that_others_add_are_seen(tmp_path: Path) -> None:
    study = _study(tmp_path)
    study.ask()
    with _backend(study).undisturbed():
        study.get_trials()
        optuna.load_study(study_name="known", storage=_backend(study).url).enqueue_trial({"x": 0.25})
        assert [trial.state for trial in study.get_trials()] == [TrialState.RUNNING, TrialState.WAITING]


def test_afterwards_what_others_change_is_seen_again(tmp_path: Path) -> None:
    study = _study(tmp_path)
    study.ask()
    with _backend(study).undisturbed():
        study.get_trials()
    optuna.load_study(study_name="known", storage=_backend(study).url).tell(0, state=TrialState.FAIL)
    assert study.get_trials()[0].state is TrialState.FAIL


def test_what_fails_half_way_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = _study(tmp_path)
    trial = study.ask()
    of_storage = PatientStorage.set_trial_user_attr

    def fails(*arguments: Any, **named: Any) -> None:
        of_storage(*arguments, **named)
        raise ValueError("after it was done")

    with _backend(study).undisturbed():
        study.get_trials()
        monkeypatch.setattr(PatientStorage, "set_trial_user_attr", fails)
        with pytest.raises(ValueError, match="after it was done"):
            trial.set_user_attr("noted", 1)
        assert study.get_trials()[0].user_attrs == {"noted": 1}


def test_an_interrupt_while_trials_are_read_forgets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _study(tmp_path)
    trial = study.ask()
    of_storage = PatientStorage._get_trials

    def interrupted(*arguments: Any) -> list[Any]:
        monkeypatch.setattr(PatientStorage, "_get_trials", of_storage)
        raise KeyboardInterrupt

    with _backend(study).undisturbed():
        study.get_trials()
        trial.set_user_attr("noted", 1)
        monkeypatch.setattr(PatientStorage, "_get_trials", interrupted)
        with pytest.raises(KeyboardInterrupt):
            study.get_trials()
        assert study.get_trials()[0].user_attrs == {"noted": 1}
