"""A study under every fault at once, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.outages import Faults, attack


@pytest.mark.slow
@pytest.mark.usefixtures("no_connections_left")
def test_a_study_survives_killed_workers_a_restart_of_its_database_and_an_outage_of_mlflow(
    tmp_path: Path,
) -> None:
    survived = attack(
        Faults(trials=12, workers=2, kill_every=0.0, kills=2, restarts=1, outage=5.0, seed=1), tmp_path
    )
    assert survived.wrong == (), survived.said
    assert survived.states["complete"] == 12
    assert survived.kills == 2
    assert "the studies' database answers again" in survived.said
    assert "the study goes on" in survived.said


@pytest.mark.slow
@pytest.mark.usefixtures("no_connections_left")
def test_a_study_of_two_runners_survives_the_kill_of_one_and_of_workers_of_both(tmp_path: Path) -> None:
    faults = Faults(
        trials=16, runners=2, workers=2, kill_every=0.0, kills=2, runner_kills=1, restarts=1, outage=5.0
    )
    survived = attack(faults, tmp_path)
    assert survived.wrong == (), survived.said
    assert survived.states["complete"] == 16
    assert survived.kills == 2
    assert survived.runner_kills == 1
