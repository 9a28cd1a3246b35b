from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.yamlfile import dump_yaml, parse_yaml
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec

Call = Callable[..., Any]
Finished = tuple[Path, Any]


def test_a_run_prints_the_statistics_a_line_a_trial_the_front_and_last_the_link(
    finished_study: Finished,
) -> None:
    _, answer = finished_study
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    for part in ("train", "iid_valid", "iid_test", "ood_valid", "ood_test"):
        assert any(line.split()[:1] == [part] for line in lines)
    trials = [line for line in lines if " trial " in line and line.startswith("[")]
    assert [line.split("]")[0] for line in trials] == ["[1/3", "[2/3", "[3/3"]
    assert all(
        " s " in line and "iid/ndcg_at_20 0." in line and "ood/ndcg_at_20 0." in line for line in trials
    )
    assert any("front of tiny" in line for line in lines)
    assert lines[-1].startswith("http://127.0.0.1:5000/#/experiments/")
    assert "viewStateShareKey=" in lines[-1]


@pytest.mark.slow
def test_a_space_that_is_used_up_ends_the_study_which_says_so_and_goes_on(
    cli: Call,
    new_workspace: Path,
    tmp_path: Path,
    tiny_config: TrainConfig,
    spec_of: Callable[..., StudySpec],
) -> None:
    tree = spec_of(tiny_config, sampler="tpe", trials=5).model_dump(mode="json")
    tree["space"] = {"mask.source": {"type": "categorical", "choices": ["ones", "learned"]}}
    tree["config"]["fusion"] = {"kind": "invariant"}
    tree["presets"] = ["ultragcn"]  # the point of "ones"
    (tmp_path / "tiny.yaml").write_text(dump_yaml(StudySpec.model_validate(tree)), encoding="utf-8")
    said = "ended before all trials: every point of the space has been tried"
    for _ in range(2):
        answer = cli("study", "run", tmp_path / "tiny.yaml", "--workspace", new_workspace, "--device", "cpu")
        assert (answer.code, answer.err, answer.out.splitlines().count(said)) == (0, "", 1)
    now = json.loads(cli("study", "status", "--json", "--workspace", new_workspace).out)
    assert (now["finished"], now["requested"]) == (2, 5)
    repeated = f"asked for again and not trained twice: {now['counts']['repeated']}"
    assert (repeated in answer.out) is (now["counts"]["repeated"] > 0)


def test_a_trial_line_says_whether_the_trial_is_on_the_front_when_it_lands(finished_study: Finished) -> None:
    lines = [line for line in finished_study[1].out.splitlines() if line.startswith("[")]
    values = [
        (float(words[words.index("iid/ndcg_at_20") + 1]), float(words[words.index("ood/ndcg_at_20") + 1]))
        for words in (line.split() for line in lines)
    ]
    for number, line in enumerate(lines):
        beaten = any(
            other[0] >= values[number][0] and other[1] >= values[number][1] and other != values[number]
            for other in values[:number]
        )
        assert line.endswith("on the front") is not beaten


def test_the_front_as_json_holds_exactly_the_points_that_no_other_beats(
    cli: Call, finished_study: Finished
) -> None:
    workspace, _ = finished_study
    answer = cli("study", "front", "--json", "--workspace", workspace)
    front = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert front["study"] == "tiny"
    objectives = front["objectives"]
    on = {row["name"]: [row["values"][name] for name in objectives] for row in front["rows"]}
    off = {row["name"]: [row["values"][name] for name in objectives] for row in front["dominated"]}
    assert {name.partition(".")[0] for name in (*on, *off)} == {"0", "1", "2"}
    assert len(set(on) | set(off)) == len(front["rows"]) + len(front["dominated"])

    def beats(one: list[float], other: list[float]) -> bool:
        return one != other and all(a >= b for a, b in zip(one, other, strict=True))

    everything = [*on.values(), *off.values()]
    assert not any(beats(other, one) for one in on.values() for other in everything)
    assert all(any(beats(other, one) for other in everything) for one in off.values())


def test_front_and_status_take_a_name_a_file_or_nothing(cli: Call, workspace: Path, spec: Path) -> None:
    answers = [cli("study", "front", *which, "--workspace", workspace) for which in ([], ["tiny"], [spec])]
    assert {answer.code for answer in answers} == {0}
    assert len({answer.out for answer in answers}) == 1


def test_the_workspace_can_come_from_the_environment(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAINVRL_WORKSPACE", str(workspace))
    assert cli("study", "front").out == cli("study", "front", "--workspace", workspace).out != ""


def test_status_counts_trials_and_gives_the_best_of_each_objective(cli: Call, swept_study: Path) -> None:
    workspace = swept_study
    status = json.loads(cli("study", "status", "--json", "--workspace", workspace).out)
    front = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    assert status["counts"]["complete"] == 3
    assert sum(status["counts"].values()) == 3
    assert status["front_size"] == len(front["rows"])
    rows = front["rows"] + front["dominated"]
    for best in status["best"]:
        assert best["value"] == max(row["values"][best["objective"]] for row in rows)
    text = cli("study", "status", "--workspace", workspace).out
    assert "study tiny: 3 complete; 3 requested" in text
    trainings = {row["trial"] for row in rows if row["name"] in {one["name"] for one in front["rows"]}}
    assert status["front_trainings"] == len(trainings) < status["front_size"]
    assert f"front: {status['front_size']} points of {len(trainings)} training" in text
    assert all(best["name"] in text for best in status["best"])


def test_the_same_command_goes_on_and_only_trains_what_is_missing(
    cli: Call, workspace: Path, spec: Path
) -> None:
    before = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    done = cli("study", "run", spec, "--workspace", workspace)
    assert "3 of 3 trials are there" in done.out
    assert not any(line.startswith("[") for line in done.out.splitlines())
    more = cli("study", "run", spec, "--workspace", workspace, "--trials", 4)
    assert [line.split("]")[0] for line in more.out.splitlines() if line.startswith("[")] == ["[4/4"]
    after = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    known = {row["trial"]: row["values"] for row in before["rows"] + before["dominated"]}
    rows = {row["trial"]: row["values"] for row in after["rows"] + after["dominated"]}
    assert len(rows) == 4
    assert {number: rows[number] for number in known} == known


@pytest.mark.slow
def test_quiet_prints_the_result_only(cli: Call, workspace: Path, spec: Path) -> None:
    answer = cli("study", "run", spec, "--workspace", workspace, "--quiet")
    assert answer.out.startswith("front of tiny")
    assert "iid_valid" not in answer.out


def test_a_dry_run_prints_every_default_and_trains_nothing(cli: Call, tmp_path: Path, spec: Path) -> None:
    answer = cli("study", "run", spec, "--dry-run", "--workspace", tmp_path / "none")
    resolved = parse_yaml(answer.out, file="stdout")
    assert answer.code == 0
    assert resolved["study"]["startup_trials"] == 10  # type: ignore[index]
    assert resolved["config"]["rounds"] == 1  # type: ignore[index]
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_study_whose_trials_all_fail_has_no_front_and_exits_with_three(
    cli: Call,
    tmp_path: Path,
    new_workspace: Path,
    tiny_config: TrainConfig,
    spec_of: Callable[[TrainConfig], StudySpec],
) -> None:
    training = tiny_config.training.model_copy(update={"learning_rate": 1e30})
    spec = tmp_path / "failing.yaml"
    spec.write_text(dump_yaml(spec_of(tiny_config.model_copy(update={"training": training}))))
    run = cli("study", "run", spec, "--workspace", new_workspace, "--trials", 2)
    assert run.code == 3
    assert "Traceback" not in run.out + run.err
    assert run.out.count("failed (diverged)") == 2
    front = cli("study", "front", "--json", "--workspace", new_workspace)
    assert front.code == 3
    assert json.loads(front.out)["rows"] == []
    status = cli("study", "status", "--workspace", new_workspace)
    assert status.code == 3
    assert "2 failed" in status.out
    assert "trial 0 failed (diverged): " in status.out
    assert status.err.startswith("error: the study 'tiny' has no")


def test_a_study_that_is_not_there_names_those_that_are(cli: Call, finished_study: Finished) -> None:
    answer = cli("study", "front", "tini", "--workspace", finished_study[0])
    assert (answer.code, answer.out) == (2, "")
    assert "'tini'" in answer.err
    assert "tiny" in answer.err


def test_json_never_holds_a_nan(cli: Call, finished_study: Finished) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    workspace, _ = finished_study
    for command in ("front", "status"):
        out = cli("study", command, "--json", "--workspace", workspace).out
        assert json.loads(out, parse_constant=refuse)


def test_trial_lines_go_to_stdout_even_while_a_terminal_shows_the_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl.cli.progress import study_progress
    from painvrl.engine.events import Standing, TrialFinished, TrialStarted
    from painvrl.engine.outcomes import Failed

    monkeypatch.setenv("FORCE_COLOR", "1")  # stderr counts as a terminal now
    with study_progress(quiet=False) as lines:
        lines.trial_started(TrialStarted(number=4, finished=4, requested=9))
        lines.trial_stage(4, "pretrain")
        lines.trial_finished(
            TrialFinished(
                number=4,
                outcome=Failed(reason="diverged", message="too fast"),
                values=None,
                seconds=1.25,
                finished=5,
                requested=9,
                standing=Standing(on_front=0, front_size=2),
            )
        )
    captured = capsys.readouterr()
    assert captured.out == "[5/9] trial   4    1.2 s  failed (diverged): too fast\n"
    assert "trial 4 (5 of 9): pretrain" in captured.err


def test_a_terminal_shows_every_trial_that_is_under_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl.cli.progress import Spinner, StudyLines
    from painvrl.engine.events import Standing, TrialFinished, TrialStarted
    from painvrl.engine.outcomes import Failed

    shown: list[str] = []
    monkeypatch.setattr(Spinner, "show", lambda self, text: shown.append(text))
    lines = StudyLines(Spinner(None), quiet=True)
    lines.trial_started(TrialStarted(number=4, finished=4, requested=9))
    lines.trial_started(TrialStarted(number=5, finished=4, requested=9, others=1))
    lines.trial_stage(5, "pretrain")
    lines.trial_stage(4, "mask")
    lines.trial_finished(
        TrialFinished(
            number=4,
            outcome=Failed(reason="diverged", message="too fast"),
            values=None,
            seconds=1.25,
            finished=5,
            requested=9,
            standing=Standing(on_front=0, front_size=2),
        )
    )
    assert shown == [
        "trial 4 (5 of 9)",
        "trial 4 (5 of 9), trial 5 (6 of 9)",
        "trial 4 (5 of 9), trial 5 (6 of 9): pretrain",
        "trial 4 (5 of 9): mask, trial 5 (6 of 9): pretrain",
        "trial 5 (6 of 9): pretrain",
    ]


@pytest.mark.parametrize(
    "option", [("--workers", "0"), ("--memory-fraction", "1.5"), ("--memory-fraction", "0.5")]
)
def test_workers_and_their_memory_are_checked(
    cli: Call, new_workspace: Path, spec: Path, option: tuple[str, str]
) -> None:
    answer = cli("study", "run", spec, "--workspace", new_workspace, "--device", "cpu", *option)
    assert answer.code == 2
    assert option[0] in answer.err
