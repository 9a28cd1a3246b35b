"""A study's rows in another database are those that it has, whatever is there already."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from painvrl.study.moving.records import copy_records
from painvrl.study.store.database import connect


def everything(study: optuna.Study) -> list[dict[str, object]]:
    """All that Optuna has of each trial but the database's own ids."""

    def of(trial: FrozenTrial) -> dict[str, object]:
        return {key: value for key, value in vars(trial).items() if key != "_trial_id"}

    return [of(trial) for trial in study.trials]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_all_of_a_study_is_there_and_a_genetic_sampler_knows_its_parents(tmp_path: Path) -> None:
    one, other = (connect(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "other"))
    optuna.create_study(storage=other, study_name="first").enqueue_trial({"x": 1.0})
    sampler = optuna.samplers.NSGAIISampler(population_size=4, seed=1)
    study = optuna.create_study(
        storage=one, study_name="moved", directions=["maximize", "minimize"], sampler=sampler
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_user_attr("note", {"x": x})
        if trial.suggest_categorical("kind", ["a", "b"]) == "b" and trial.number % 5 == 4:
            raise optuna.TrialPruned
        return x / 3, float("inf") if trial.number == 2 else x**2

    study.optimize(objective, n_trials=12)
    study.enqueue_trial({"x": 0.25}, user_attrs={"origin": "point"})
    with one.engine.connect() as source, other.engine.begin() as target:
        copy_records("moved", source, target)
    copied = optuna.load_study(study_name="moved", storage=other)
    assert everything(copied) == everything(study)
    assert copied.directions == study.directions
    assert copied.trials[-1].state is TrialState.WAITING
    numbers = {
        name: [
            sorted({trial._trial_id: trial.number for trial in each.trials}[one] for one in ids)
            for key, ids in sorted(each._storage.get_study_system_attrs(each._study_id).items())
            if ":parent:" in key
        ]
        for name, each in (("here", study), ("there", copied))
    }
    assert numbers["here"]
    assert numbers["there"] == numbers["here"]
