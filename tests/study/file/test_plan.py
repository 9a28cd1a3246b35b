from __future__ import annotations

from typing import Any

import pytest
import torch

from painvrl.core.tables import duration
from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed
from painvrl.run.cost import Cost
from painvrl.study.file import plan as module
from painvrl.study.file.plan import lines_of, plan_of
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.asktell import AskTell
from painvrl.study.store.creation import create_study

CPU = torch.device("cpu")
DONE = Completed(metrics={"iid/ndcg_at_20": 0.2, "ood/ndcg_at_20": 0.1})


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cost_of", lambda *_: Cost(epoch_seconds=0.5, trainings=3, epochs=100))


@pytest.mark.slow
@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize("trials", [2, 5, 12])
@pytest.mark.parametrize("sampler", ["auto", "grid", "random"])
def test_the_plan_counts_the_trials_that_the_study_then_trains(
    spec_tree: dict[str, Any], workspace: Workspace, trials: int, sampler: str
) -> None:
    spec_tree["study"] |= {"sampler": sampler, "trials": trials}
    spec_tree["presets"] = ["erm", "painvrl"]
    spec_tree["config"]["mask"]["sparsity"] = 0.3
    spec_tree["space"] = {
        "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.3},
        "fusion.kind": {"type": "categorical", "choices": ["branch", "invariant"]},
    }
    spec_tree["points"] = [{"fusion.kind": "invariant"}]
    spec = StudySpec.model_validate(spec_tree)
    plan = plan_of(spec, workspace, CPU)
    adapter = AskTell(create_study(spec, workspace, data="d")[0], spec.study)
    presets = others = 0
    while presets + others < trials and (asked := adapter.ask()) is not None:
        adapter.tell(asked.number, DONE)
        presets += asked.preset is not None
        others += asked.preset is None
    assert plan.trials["preset"] == presets
    assert sum(plan.trials.values()) == presets + others
    assert plan.trials["sampled"] == max(0, presets + others - 3)
    assert (plan.hyperparameters, plan.size) == (2, 8)


@pytest.mark.usefixtures("untimed")
def test_more_points_of_the_file_than_the_space_has_leave_none_to_sample(
    spec_tree: dict[str, Any], workspace: Workspace
) -> None:
    spec_tree["space"] = {
        "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.3, "step": 0.3},
        "fusion.kind": {"type": "categorical", "choices": ["branch", "invariant"]},
    }
    parts = [{"mask.sparsity": 0.0}, {"mask.sparsity": 0.3}, {"fusion.kind": "branch"}]
    spec_tree["points"] = [*parts, {"fusion.kind": "invariant"}, *({**parts[0], **parts[2]},)]
    plan = plan_of(StudySpec.model_validate(spec_tree), workspace, CPU, trials=9)
    assert (plan.size, plan.trials["sampled"]) == (4, 0)


@pytest.mark.usefixtures("untimed")
def test_the_estimate_is_epochs_times_trainings_times_trials(spec: StudySpec, workspace: Workspace) -> None:
    text = "\n".join(lines_of(plan_of(spec, workspace, CPU, trials=30)))
    assert "hyperparameters: 4; size of the space: continuous" in text
    assert "trials: 30 (1 default, 29 sampled)" in text
    assert "at most 75 min for 30 trials, 150.0 s each" not in text
    assert "at most 75 min for 30 trials, 2 min each" in text
    assert "= 3 trainings x 100 epochs x 0.5000 s" in text


def test_a_plan_makes_no_workspace_and_says_what_is_missing(spec_tree: dict[str, Any], tmp_path: Any) -> None:
    spec_tree["config"]["data"] = {"kind": "mmgcn", "path": "nowhere"}
    spec_tree["config"]["split"] = {"protocol": "official", "ood": {"protocol": "cold_item"}}
    plan = plan_of(StudySpec.model_validate(spec_tree), Workspace(tmp_path / "none"), CPU)
    assert plan.cost is None
    assert "nowhere: data.path: there is no such folder" in "\n".join(lines_of(plan))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.25, "1.2 s"), (119, "119.0 s"), (120, "2 min"), (7199, "120 min"), (9000, "2.5 h")],
)
def test_durations_are_as_people_read_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


WEIGHTS = {
    "fusion.variant_weight": {"type": "float", "low": 0, "high": 1, "when": {"fusion.kind": "branch"}},
    "fusion.cold_weight": {"type": "float", "low": 0, "high": 1},
}


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize(
    ("sweep", "hyperparameters", "line"),
    [
        ("auto", (4, 2), "scored at up to 32 points; kept are at most 16 of its front"),
        ({"points": 9, "keep": 5}, (4, 2), "scored at up to 9 points; kept are at most 5 of its front"),
        (False, (6, 0), None),
    ],
)
def test_the_plan_tells_what_is_sampled_before_a_training_from_what_is_swept_after_it(
    spec_tree: dict[str, Any],
    workspace: Workspace,
    sweep: object,
    hyperparameters: tuple[int, int],
    line: str | None,
) -> None:
    spec_tree["space"] |= WEIGHTS
    spec_tree["sweep"] = sweep
    plan = plan_of(StudySpec.model_validate(spec_tree), workspace, CPU, trials=30)
    first, second, *_ = lines_of(plan)
    assert (plan.hyperparameters, plan.swept) == hyperparameters
    if line is None:
        assert first == "hyperparameters: 6; size of the space: continuous"
        assert not second.startswith("sweep")
    else:
        assert first == (
            "hyperparameters: 4 sampled before each training, 2 swept after it; "
            "size of the sampled space: continuous"
        )
        assert line in second


@pytest.mark.usefixtures("untimed")
def test_a_hyperparameter_that_no_trial_can_sweep_is_not_counted(
    spec_tree: dict[str, Any], workspace: Workspace
) -> None:
    spec_tree["space"] = {"mask.sparsity": spec_tree["space"]["mask.sparsity"]} | WEIGHTS
    spec_tree["config"]["fusion"] = {"kind": "invariant"}
    plan = plan_of(StudySpec.model_validate(spec_tree), workspace, CPU)
    assert (plan.hyperparameters, plan.swept) == (1, 1)
