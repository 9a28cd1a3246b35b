"""Points that share a training: a seed of it is trained once, and serves them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from painvrl.engine.job import Job
from painvrl.study.search.source import sweep_of
from painvrl.study.store.records import named
from painvrl.study.store.storage import Attr

Make = Callable[..., Any]

SPARSITIES = (0.0, 0.2, 0.4, 0.9)
FRONT = ("0.0", "0.1", "0.2", "0.3", "1.2", "1.3", "2.2", "2.3")
"""Without noise: of trial 3, and of the begin of 1 and 2, every point is dominated."""


def of_trial(rows: Any) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row.trial, []).append(row)
    return found


def test_a_seed_of_a_training_is_trained_once_for_all_its_points(
    study: Make, confirm: Make, curved: Make
) -> None:
    objective = curved()
    summary, ear = confirm(study(objective, SPARSITIES), objective)
    found = summary.confirmation
    assert sorted(found.front) == sorted(row.name for row in found.rows) == list(FRONT)
    assert objective.asked() == [(sparsity, seed) for seed in (8, 9) for sparsity in (0.0, 0.2, 0.4)]
    assert (found.runs, found.runs_for_all) == (6, 30)  # three trainings, not eight points
    assert {(row.name, row.seeds) for row in found.rows} == {(name, 2) for name in FRONT}
    assert [(step.seeds, step.undecided, step.candidates) for step in ear.steps] == [(2, (), 8)]
    assert [event.finished for event in ear.finished] == list(range(1, 7))
    assert ear.titles[:2] == ["trial 0 seed 8", "trial 1 seed 8"]


def test_the_points_are_those_that_the_study_found_and_nothing_is_swept_again(
    study: Make, confirm: Make, curved: Make
) -> None:
    objective = curved(noise=0.01)
    stored = study(objective, SPARSITIES)
    confirm(stored, objective, seeds_at_most=2)
    records = {stored.config_of(record).fingerprint(): record for record in stored.trials()}
    assert objective.jobs
    for job in objective.jobs:
        record = records[job.config.model_copy(update={"seed": 7}).fingerprint()]
        assert job.at == tuple(point.values for point in record.outcome.points)
        assert (job.sweep.hyperparameters, job.sweep.objectives) == ({}, stored.objectives)


def test_a_points_mean_is_that_of_its_own_values_under_the_fresh_seeds(
    study: Make, confirm: Make, curved: Make
) -> None:
    objective = curved(noise=0.01)
    stored = study(objective, SPARSITIES)
    summary, _ = confirm(stored, objective, seeds_at_most=2)
    oracle = curved(noise=0.01)
    assert any(row.source == "near" for row in summary.confirmation.rows)
    for row in summary.confirmation.rows:
        record = named(stored.trials(), row.name)
        assert record is not None
        trial = stored.trials()[row.trial]
        config = stored.config_of(trial)
        values = []
        for seed in (8, 9):
            again = config.model_copy(update={"seed": seed})
            job = Job(number=0, point={}, config=again, sweep=sweep_of(stored, config))
            values.append(
                [oracle(job, print, print).points[record.place].metrics[n] for n in stored.objectives]
            )
        for at, name in enumerate(stored.objectives):
            assert row.estimates[name].mean == pytest.approx(np.mean(values, axis=0)[at], abs=1e-12)
            assert row.estimates[name].first == record.values[at]


def test_points_that_join_find_their_values_in_the_runs_that_there_are(
    study: Make, confirm: Make, curved: Make
) -> None:
    stored = study(curved(noise=0.01), SPARSITIES)
    alone, both = curved(noise=0.01), curved(noise=0.01)
    small = confirm(stored, alone, scope="front", seeds_at_most=2)[0].confirmation
    large = confirm(stored, both, scope="plausible", seeds_at_most=2)[0].confirmation
    joined = {row.name for row in large.rows} - {row.name for row in small.rows}
    known, new = of_trial(small.rows), of_trial(large.rows)
    assert any(int(name.partition(".")[0]) in known for name in joined)
    assert {sparsity for sparsity, _ in both.asked()} == {SPARSITIES[trial] for trial in new.keys() - known}
    assert large.runs == small.runs + len(both.jobs)


def test_where_more_points_are_wanted_later_no_earlier_run_is_computed_again(
    study: Make, confirm: Make, curved: Make
) -> None:
    objective = curved()
    stored = study(objective, (0.4, 0.2, 0.9, 0.0))
    stored.study.set_user_attr(Attr.CONSTRAINTS, [{"metric": "iid/ndcg_at_20", "max": 0.2}])
    first = confirm(stored, objective)[0].confirmation
    stored.study.set_user_attr(Attr.CONSTRAINTS, [])
    more = curved()
    second = confirm(stored, more)[0].confirmation
    assert set(first.front) < set(second.front)
    assert {sparsity for sparsity, _ in more.asked()} == {0.0}  # 0.2 and 0.4 have more candidates now
    assert {row.trial for row in first.rows} == {0, 1}


def test_a_training_runs_again_for_any_of_its_points_and_then_all_have_that_seed(
    study: Make, confirm: Make, curved: Make
) -> None:
    objective = curved(noise=0.01)
    summary, ear = confirm(study(objective, SPARSITIES), objective, seeds_at_most=5)
    found = summary.confirmation
    trained = Counter(sparsity for sparsity, _ in objective.asked())
    for trial, rows in of_trial(found.rows).items():
        assert {row.seeds for row in rows} == {trained[SPARSITIES[trial]]}
    seeds = {row.name: row.seeds for row in found.rows}
    needy = ear.steps[0].undecided
    again = {name for name in seeds if name.partition(".")[0] in {one.partition(".")[0] for one in needy}}
    assert set(needy) < again < set(seeds)
    assert all(seeds[name] > 2 for name in again)
    assert found.runs == trained.total() < found.runs_for_all == 5 * len(trained)
    assert len(set(objective.asked())) == len(objective.asked())


def test_called_again_it_trains_nothing(study: Make, confirm: Make, curved: Make) -> None:
    stored = study(curved(noise=0.01), SPARSITIES)
    first, _ = confirm(stored, curved(noise=0.01), seeds_at_most=3)
    idle = curved(noise=0.01)
    again, _ = confirm(stored, idle, seeds_at_most=3)
    assert idle.jobs == []
    assert again.confirmation == first.confirmation


def test_a_study_that_ceased_to_sweep_is_confirmed_all_the_same(
    study: Make, confirm: Make, curved: Make
) -> None:
    stored = study(curved(), SPARSITIES)
    stored.study.set_user_attr(Attr.SWEEP, None)
    assert stored.sweep is None
    assert sorted(confirm(stored, curved())[0].confirmation.front) == list(FRONT)


@pytest.mark.parametrize(
    ("noise", "names"),
    [(0.0, ["1.2", "1.3"]), (0.01, ["1.3"])],  # with noise 1.2 is near the front, and does not join
)
def test_a_training_that_fails_takes_all_its_points_with_it(
    study: Make, confirm: Make, curved: Make, noise: float, names: list[str]
) -> None:
    objective = curved(noise=noise, failing=lambda seed, sparsity: seed == 9 and sparsity == 0.2)
    stored = study(objective, SPARSITIES)
    found = confirm(stored, objective, seeds_at_most=2)[0].confirmation
    rows = of_trial(found.rows)[1]
    assert [row.name for row in rows] == names
    mended = curved(noise=noise)
    healthy = confirm(stored, mended, seeds_at_most=2)[0].confirmation
    assert mended.asked() == [(0.2, 9)]
    assert [row.name for row in of_trial(healthy.rows)[1]] == ["1.2", "1.3"]
    for row in rows:
        assert (row.decision, row.probability, row.seeds) == ("failed", None, 1)
        assert (row.reason, row.estimates) == ("diverged: too fast", {})
    assert found.rows[-len(rows) :] == tuple(rows)
    said = [line for line in found.sentences() if "failed" in line]
    assert said == ["trial 1 failed (diverged: too fast); it is not on the confirmed front"]


def test_a_run_that_points_share_stands_for_the_one_most_probably_on_the_front(
    study: Make, confirm: Make, curved: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: dict[str, Mapping[str, Any]] = {}
    monkeypatch.setattr(
        "painvrl.study.confirmation.confirm.write_notes", lambda *_, **given: notes.update(given)
    )
    objective = curved(noise=0.02)
    stored = study(objective, SPARSITIES)
    names = [point.name for record in stored.trials() for point in record.points]
    own = {"0.1": "own"}  # the other points of a trial share its run
    stored.study.set_user_attr(Attr.RUNS, {name: f"run-{name[0]}" for name in names} | own)
    found = confirm(stored, objective, seeds_at_most=2)[0].confirmation
    shared = [row for row in found.rows if row.trial == 0 and row.name != "0.1"]
    assert len({row.probability for row in shared}) > 1
    best = max(shared, key=lambda row: row.probability)
    assert notes["tags"]["run-0"] == {"confirmed": best.decision, "confirmed.point": best.name}
    assert notes["metrics"]["run-0"]["confirmed/p_front"] == best.probability
    (alone,) = (row for row in found.rows if row.name == "0.1")
    assert notes["tags"]["own"] == {"confirmed": alone.decision, "confirmed.point": "0.1"}
    assert notes["metrics"]["own"]["confirmed/p_front"] == alone.probability


def test_a_trial_without_a_sweep_has_no_tag_of_a_point(
    study: Make, confirm: Make, noisy: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: dict[str, Mapping[str, Any]] = {}
    monkeypatch.setattr(
        "painvrl.study.confirmation.confirm.write_notes", lambda *_, **given: notes.update(given)
    )
    stored = study(noisy())
    stored.study.set_user_attr(Attr.RUNS, {"1": "run-1"})
    confirm(stored, noisy(), scope="front")
    assert notes["tags"] == {"run-1": {"confirmed": "in"}}
