from __future__ import annotations

import json

from painvrl.baselines.report import IID, OOD, BaselineReport, BaselineTrial, ComparisonReport, TrialRun


def trial(*runs: tuple[float, float] | None) -> BaselineTrial:
    """A trial with these (IID, OOD) on seeds 0, 1, ...; None failed."""
    return BaselineTrial(
        settings={"k": 1},
        runs=tuple(
            TrialRun(seed=seed, metrics={}, seconds=2.0, failure="it broke")
            if values is None
            else TrialRun(seed=seed, metrics={IID: values[0], OOD: values[1]}, seconds=float(seed))
            for seed, values in enumerate(runs)
        ),
    )


def report(*trials: BaselineTrial) -> BaselineReport:
    return BaselineReport(name="some", summary="", trials=trials, shared_seconds=3.0)


def test_trials_are_judged_by_their_means_over_seeds() -> None:
    found = report(
        trial((0.1, 0.1), (0.3, 0.3)),  # 0.2, 0.2
        trial((0.4, 0.0), (0.4, 0.1)),  # 0.4, 0.05
        trial((0.2, 0.4), (0.0, 0.4)),  # 0.1, 0.4
        trial((0.3, 0.1), (0.1, 0.2)),  # 0.2, 0.15: trial 0 is better
    )
    assert found.front() == (1, 0, 2)
    assert found.best(IID) == 1
    assert found.best(OOD) == 2


def test_of_equally_good_trials_on_one_part_the_better_on_the_other_is_the_best() -> None:
    found = report(trial((0.4, 0.1)), trial((0.4, 0.2)), trial((0.3, 0.2)))
    assert found.front() == (1,)
    assert found.best(IID) == found.best(OOD) == 1


def test_a_trial_that_failed_on_a_seed_is_no_choice() -> None:
    found = report(trial((0.9, 0.9), None), trial((0.1, 0.1), (0.1, 0.1)))
    assert found.front() == (1,)
    assert report(trial(None)).front() == ()
    assert report(trial(None)).best(IID) is None


def test_the_json_holds_every_trial_seed_by_seed() -> None:
    compared = ComparisonReport(
        data="d",
        split="popularity",
        seeds=(0, 1),
        trials=2,
        baselines=(
            report(trial((0.5, 0.25), None), trial((0.1, 0.2), (0.3, 0.4))),
            BaselineReport(name="other", summary="", skipped="needs x"),
        ),
    )
    told = json.loads(json.dumps(compared.as_dict()))
    assert (told["seeds"], told["trials"], told["chosen_by"]) == ([0, 1], 2, [IID, OOD])
    some, other = told["baselines"]
    assert some["trials"][0]["settings"] == {"k": 1}
    assert some["trials"][0]["runs"] == [
        {"seed": 0, "metrics": {IID: 0.5, OOD: 0.25}, "seconds": 0.0, "failure": None},
        {"seed": 1, "metrics": {}, "seconds": 2.0, "failure": "it broke"},
    ]
    assert [run["metrics"][OOD] for run in some["trials"][1]["runs"]] == [0.2, 0.4]
    assert (some["front"], some["best"], some["shared_seconds"]) == ([1], {IID: 1, OOD: 1}, 3.0)
    assert (other["skipped"], other["trials"], other["best"]) == ("needs x", [], {IID: None, OOD: None})
