from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from painvrl.core.errors import ConfigError, NothingFeasible, StudyError
from painvrl.core.workspace import Workspace
from painvrl.engine.job import DataSummary
from painvrl.engine.saved import RunStore
from painvrl.study.confirmation.decision import Decision
from painvrl.study.store.lock import study_lock

Make = Callable[..., Any]


def by_trial(confirmation: Any) -> dict[int, Any]:
    return {row.trial: row for row in confirmation.rows}


def test_without_noise_two_fresh_seeds_confirm_the_front_as_it_was(
    study: Make, confirm: Make, noisy: Make
) -> None:
    objective = noisy()
    summary, ear = confirm(study(objective), objective)
    found = summary.confirmation
    assert found.front == ("0", "1", "2", "3")  # best IID first
    assert {row.decision for row in found.rows} == {"in"}  # no dominated trial is near
    assert objective.asked() == [(sparsity, seed) for seed in (8, 9) for sparsity in (0.0, 0.2, 0.4, 0.5)]
    assert (found.first_seeds, found.seeds, found.runs, found.runs_for_all) == ((7,), (8, 9), 8, 40)
    assert [(step.seeds, step.undecided, step.candidates) for step in ear.steps] == [(2, (), 4)]
    assert [event.finished for event in ear.finished] == list(range(1, 9))
    assert ear.titles[:2] == ["trial 0 seed 8", "trial 1 seed 8"]


def test_the_studys_own_seed_is_part_of_no_mean(study: Make, confirm: Make, noisy: Make) -> None:
    objective = noisy(noise=0.002)
    stored = study(objective)
    summary, _ = confirm(stored, objective, scope="front", seeds_at_most=2)
    values: dict[float, list[float]] = {}
    for job in objective.jobs:
        outcome = noisy(noise=0.002)(job, print, print)
        values.setdefault(job.config.mask.sparsity, []).append(outcome.metrics["ood/ndcg_at_20"])
    assert {job.config.seed for job in objective.jobs} == {8, 9}
    for trial, row in by_trial(summary.confirmation).items():
        record = stored.trials()[trial]
        ood = row.estimates["ood/ndcg_at_20"]
        mean = sum(values[stored.config_of(record).mask.sparsity]) / 2
        assert ood.mean == pytest.approx(mean, abs=1e-12)
        assert ood.first == record.values[1]
        assert ood.optimism == pytest.approx(record.values[1] - mean, abs=1e-12)
        assert ood.low < ood.mean < ood.high


@pytest.mark.slow
def test_the_optimism_of_the_front_is_the_mean_of_its_trials(study: Make, confirm: Make, noisy: Make) -> None:
    objective = noisy(noise=0.01)
    summary, _ = confirm(study(objective), objective, seeds_at_most=3)
    found = summary.confirmation
    assert any(row.source == "near" for row in found.rows)
    for name, optimism in found.optimism.items():
        mine = [row.estimates[name].optimism for row in found.rows if row.source == "front"]
        assert optimism.mean == pytest.approx(sum(mine) / len(mine), abs=1e-12)
        assert optimism.low < optimism.mean < optimism.high
    front = [row for row in found.rows if row.source == "front"]

    def area(points: list[tuple[float, float]]) -> float:
        total, height = 0.0, 0.0
        for x, y in sorted(points, reverse=True):
            total += x * max(0.0, y - height)
            height = max(height, y)
        return total

    names = found.objectives
    assert found.first_hypervolume == pytest.approx(
        area([tuple(row.estimates[name].first for name in names) for row in front])
    )
    assert found.hypervolume == pytest.approx(
        area([tuple(row.estimates[name].mean for name in names) for row in front])
    )


def test_dominated_trials_join_where_noise_may_have_kept_them_off(
    study: Make, confirm: Make, noisy: Make
) -> None:
    stored = study(noisy(noise=0.02))
    both, front_only = (
        confirm(stored, noisy(noise=0.02), scope=scope, seeds_at_most=2)[0].confirmation
        for scope in ("plausible", "front")
    )
    assert {row.source for row in front_only.rows} == {"front"}
    assert {row.source for row in both.rows} == {"front", "near"}


def test_only_what_is_undecided_and_its_rivals_run_again(study: Make, confirm: Make, noisy: Make) -> None:
    # 0.5 and 0.501 are hardly apart; no one else comes near them.
    objective = noisy(noise=0.002)
    stored = study(objective, (0.0, 0.25, 0.5, 0.5001))
    summary, ear = confirm(stored, objective, seeds_at_most=6)
    found = summary.confirmation
    seeds = Counter(sparsity for sparsity, _ in objective.asked())
    assert (seeds[0.0], seeds[0.25], seeds[0.5], seeds[0.5001]) == (2, 2, 6, 6)
    rows = by_trial(found)
    assert (rows[0].decision, rows[1].decision) == ("in", "in")
    assert "undecided" in {rows[2].decision, rows[3].decision}
    assert found.runs == 16
    assert (ear.finished[-1].finished, ear.finished[-1].requested) == (16, 16)
    assert ear.steps[-1].undecided == tuple(sorted(found.of(Decision.UNDECIDED)))
    assert [step.seeds for step in ear.steps] == [2, 3, 4, 5, 6]
    for sparsity in seeds:
        mine = [seed for each, seed in objective.asked() if each == sparsity]
        assert mine == list(range(8, 8 + seeds[sparsity]))


def test_called_again_it_computes_nothing_and_with_more_seeds_goes_on(
    study: Make, confirm: Make, noisy: Make
) -> None:
    stored = study(noisy(noise=0.01))
    first, _ = confirm(stored, noisy(noise=0.01), sure=0.99, seeds_at_most=3)
    idle = noisy(noise=0.01)
    again, ear = confirm(stored, idle, sure=0.99, seeds_at_most=3)
    assert (idle.jobs, ear.finished) == ([], [])
    assert again.confirmation == first.confirmation
    more = noisy(noise=0.01)
    longer, _ = confirm(stored, more, sure=0.99, seeds_at_most=4)
    assert {seed for _, seed in more.asked()} == {11}
    assert longer.confirmation.runs == first.confirmation.runs + len(more.jobs)


@pytest.mark.parametrize("place", [0, 5, 11])
def test_an_interrupted_confirmation_goes_on_and_comes_to_the_same(
    study: Make, confirm: Make, noisy: Make, workspace: Workspace, place: int
) -> None:
    stored = study(noisy(noise=0.01))
    with pytest.raises(KeyboardInterrupt):
        confirm(stored, noisy(noise=0.01, interrupted=place), seeds_at_most=3)
    store = workspace.confirmations / "toy"
    assert len(list((store / "runs").glob("*.npz"))) == place
    assert not (store / "confirmation.json").exists()
    rest = noisy(noise=0.01)
    summary, _ = confirm(stored, rest, seeds_at_most=3)
    assert summary.confirmation.runs == place + len(rest.jobs)
    for path in (store / "runs").glob("*.npz"):
        path.unlink()
    assert confirm(stored, noisy(noise=0.01), seeds_at_most=3)[0].confirmation == summary.confirmation


def test_a_candidate_that_fails_is_not_on_the_confirmed_front_and_is_tried_again(
    study: Make, confirm: Make, noisy: Make
) -> None:
    stored = study(noisy())
    objective = noisy(failing=lambda seed, sparsity: seed == 9 and sparsity == 0.2)
    summary, _ = confirm(stored, objective, scope="front")
    found = summary.confirmation
    failed = by_trial(found)[1]
    assert (failed.decision, failed.probability, failed.seeds) == ("failed", None, 1)
    assert failed.reason == "diverged: too fast"
    assert failed.estimates == {}
    assert found.front == ("0", "2", "3")
    assert found.rows[-1] == failed
    assert "trial 1 failed (diverged: too fast); it is not on the confirmed front" in found.sentences()
    mended = noisy()
    assert confirm(stored, mended, scope="front")[0].confirmation.front == ("0", "1", "2", "3")
    assert mended.asked() == [(0.2, 9)]


def test_where_everything_fails_nothing_is_feasible(study: Make, confirm: Make, noisy: Make) -> None:
    objective = noisy(failing=lambda seed, sparsity: seed > 7)
    with pytest.raises(NothingFeasible, match="the last said diverged: too fast"):
        confirm(study(objective), objective)


def test_a_single_survivor_is_the_front(study: Make, confirm: Make, noisy: Make) -> None:
    objective = noisy(failing=lambda seed, sparsity: seed > 7 and sparsity != 0.4)
    found = confirm(study(objective), objective, scope="front")[0].confirmation
    assert found.front == ("2",)
    assert by_trial(found)[2].probability == 1


def test_what_was_found_is_written_as_it_was_reported(study: Make, confirm: Make, noisy: Make) -> None:
    objective = noisy(noise=0.01)
    summary, _ = confirm(study(objective), objective, seeds_at_most=2)
    page = json.loads((summary.folder / "confirmation.json").read_text(encoding="utf-8"))
    assert page == json.loads(summary.confirmation.as_json())
    assert (summary.folder / "table.md").read_text(encoding="utf-8") == summary.confirmation.as_markdown()
    assert summary.not_tracked is None  # the study is tracked nowhere


def test_other_code_or_another_device_runs_anew(study: Make, confirm: Make, noisy: Make) -> None:
    stored = study(noisy())
    confirm(stored, noisy(), scope="front")
    other = noisy(data=DataSummary(fingerprint="planted-1", all_seeds="planted", numbers="newer code"))
    confirm(stored, other, scope="front")
    assert len(other.jobs) == 8


def test_data_that_the_study_was_not_run_on_are_refused(study: Make, confirm: Make, noisy: Make) -> None:
    objective = noisy()
    stored = study(objective)
    objective.data = replace(objective.data, fingerprint="planted-2")
    with pytest.raises(StudyError, match="not those that the study was run on"):
        confirm(stored, objective)
    assert objective.jobs == []


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"seeds_at_most": 1}, "seeds-at-most: must be at least 2"),
        ({"sure": 0.5}, "sure: must lie above 0.5 and below 1"),
        ({"sure": 1.0}, "sure: must lie above 0.5 and below 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    study: Make, confirm: Make, noisy: Make, option: dict[str, float], message: str
) -> None:
    objective = noisy()
    with pytest.raises(ConfigError, match=message):
        confirm(study(objective), objective, **option)


def test_one_process_a_confirmation(study: Make, confirm: Make, noisy: Make, workspace: Workspace) -> None:
    objective = noisy()
    stored = study(objective)
    with (
        study_lock(workspace.lock_path("confirmation toy"), "toy"),
        pytest.raises(StudyError, match="is being run by another process"),
    ):
        confirm(stored, objective)


def test_a_run_is_kept_before_the_next_one_starts(
    study: Make, confirm: Make, noisy: Make, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, seen = noisy(), []
    real = RunStore.store

    def store(self: RunStore, key: str, run: Any) -> None:
        seen.append((len(objective.jobs), run.outcome.metrics["iid/ndcg_at_20"]))
        real(self, key, run)

    stored = study(objective)
    monkeypatch.setattr(RunStore, "store", store)
    confirm(stored, objective, scope="front")
    assert [count for count, _ in seen] == list(range(1, 9))
