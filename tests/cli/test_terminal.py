"""What a terminal shows, what programs get instead, and what both are told before anything runs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from painvrl.cli import app, output, progress, render
from painvrl.cli.study import run as study_run
from painvrl.core.tables import TextTable
from painvrl.core.yamlfile import parse_yaml
from painvrl.engine.events import Standing, TrialFinished, TrialStarted
from painvrl.engine.outcomes import Failed
from painvrl.study.front import FrontRow, FrontTable

Call = Callable[..., Any]
OBJECTIVES = ("iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood/ndcg_at_20")
SEARCHED = ("backbone.id_dropout", "environments.count", "fusion.popularity_weight", "mask.sparsity")


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands and groups, by the words that call them."""

    def below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield words, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from below((*words, name), inner)

    yield from below((), typer.main.get_command(app))


ALL = list(commands())
NAMES = [" ".join(words) for words, _ in ALL]


@pytest.fixture
def front() -> FrontTable:
    rows = tuple(
        FrontRow(
            trial=trial,
            name=f"{trial}.1",
            run_id=None,
            preset="ultragcn" if trial else None,
            values=dict.fromkeys(OBJECTIVES, 0.125),
            point=dict.fromkeys(SEARCHED, 0.5),
            metrics={},
        )
        for trial in range(2)
    )
    return FrontTable(
        study="toy", objectives=OBJECTIVES, rows=rows, dominated=(), iid_only=rows[0], hypervolume=0.1
    )


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """A terminal of so many columns."""
    for module in (output, render):
        monkeypatch.setattr(module, "columns", lambda **_: request.param)
    return int(request.param)


def test_only_a_terminal_limits_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert output.columns() == output.columns(err=True) == output.WIDE
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert (output.columns(), output.columns(err=True)) == (output.WIDE, 60)


@pytest.mark.parametrize("screen", [120, 80, 60, 40], indirect=True)
def test_a_front_shows_all_its_columns_on_any_screen_and_breaks_no_word(
    screen: int, front: FrontTable, capsys: pytest.CaptureFixture[str]
) -> None:
    render.show(*front.blocks())
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= screen
    shown = {word for line in lines for word in line.split()}
    for name in (*OBJECTIVES, *SEARCHED):
        section, mark, rest = re.split(r"([/.])", name, maxsplit=1)
        assert name in shown or {section + mark, rest} <= shown, name
    assert sum("0.5000" in line for line in lines) >= 2  # hyperparameters, and not their names alone
    assert " ".join(lines).count("hypervolume") == 1  # a table that goes on below has one title


@pytest.mark.parametrize("screen", [30], indirect=True)
def test_texts_in_cells_are_wrapped_between_words_and_numbers_never(
    screen: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = ["Le fabuleux destin d'Amélie", "0.123456789"]
    render.show(TextTable(columns=["title", "score"], rows=[cells]))
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= screen
    assert set(" ".join(cells).split()) <= set(out.split())


@pytest.mark.parametrize("screen", [40], indirect=True)
def test_a_link_is_one_word(screen: int, capsys: pytest.CaptureFixture[str]) -> None:
    link = "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine-learning&viewStateShareKey=b807"
    render.show(f"front of a study with a name: {link}")
    assert link in capsys.readouterr().out.splitlines()[-1]
    assert len(link) > screen


def test_a_pipe_gets_every_row_on_one_line(front: FrontTable, capsys: pytest.CaptureFixture[str]) -> None:
    render.show(*front.blocks())
    header = next(line for line in capsys.readouterr().out.splitlines() if "trial" in line)
    assert header.split() == ["trial", "preset", *OBJECTIVES, *SEARCHED]


def test_the_live_block_shows_bar_stage_best_front_hypervolume_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # stderr counts as a terminal now
    clock = iter([10.0, 70.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock, 70.0))
    standing = Standing(on_front=1, front_size=7, hypervolume=0.25, best={"iid/ndcg_at_20": 0.5})
    with progress.study_progress(quiet=False) as lines:
        lines._begun = progress.time.monotonic(), 4  # as when the study started
        lines.trial_started(TrialStarted(number=4, finished=4, requested=9))
        lines.trial_finished(
            TrialFinished(
                number=4,
                outcome=Failed(reason="diverged", message="too fast"),
                values=None,
                seconds=1.25,
                finished=5,
                requested=9,
                standing=standing,
            )
        )
        lines.trial_started(TrialStarted(number=5, finished=5, requested=9))
        lines.trial_stage(5, "pretrain")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "5/9 about 4 min left" in shown
    assert "trial 5 (6 of 9): pretrain" in shown
    assert "front 7, hypervolume 0.2500; best so far: iid/ndcg_at_20 0.5000" in shown


@pytest.mark.slow
def test_what_painvrl_does_before_the_first_trial_is_told(cli: Call, spec: Path, new_workspace: Path) -> None:
    where = ["--workspace", new_workspace, "--device", "cpu"]
    first = cli("study", "run", spec, "--trials", 2, *where)
    lines = first.out.splitlines()
    assert lines[0] == "drawing planted data ..."
    assert "2 trials in all: 1 default, 1 sampled" in lines
    again = cli("study", "run", spec, *where)
    assert "study tiny continues: 2 of 3 trials are there" in again.out
    assert "3 trials in all: 1 default, 2 sampled" in again.out.splitlines()
    assert (first.err, again.err) == ("", "")


def test_a_budget_smaller_than_the_presets_is_asked_about_on_a_terminal_and_said_elsewhere(
    spec: Path, new_workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from painvrl.core.errors import ConfigError
    from painvrl.core.workspace import Workspace
    from painvrl.study.file.spec import load_spec

    loaded = load_spec(spec, ["presets=[ultragcn, erm, irm]"])
    place = Workspace(new_workspace)
    asked: list[str] = []

    def need(trials: int, *, ask: bool = True) -> str:
        study_run._need_room_for_presets(loaded, place, trials, ask=ask)
        return capsys.readouterr().err

    said = "warning: all trials requested (2) go to presets, of which there are 3: nothing is searched\n"
    monkeypatch.setattr(typer, "confirm", lambda text, **_: bool(asked.append(text)))
    assert need(2) == said
    assert need(3) == ""
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert need(2, ask=False) == said
    assert asked == []
    with pytest.raises(
        ConfigError, match=r"--trials: the file has 3 presets, which come first; request more"
    ):
        need(2)
    assert asked == ["Go on?"]


@pytest.mark.parametrize(("words", "command"), ALL, ids=NAMES)
def test_every_help_has_an_example_that_parses(words: tuple[str, ...], command: Any, cli: Call) -> None:
    found = re.search(r"Example: painvrl (.+?)(?:\. |$)", f"{command.help}\n{command.epilog}", re.MULTILINE)
    assert found is not None
    assert f"Example: painvrl {found[1]}" in " ".join(cli(*words, "--help").out.split())
    called, rest = ALL[0][1], shlex.split(found[1])
    while hasattr(called, "commands"):
        called, rest = called.commands[rest[0]], rest[1:]
    assert hasattr(command, "commands") or called is command
    called.make_context("painvrl", rest)


ANSWERS_NOTHING = {"ui", "serve", "init", "study schema"}
"""Two serve until they are stopped, one writes a file, and what the last prints is JSON anyway."""


@pytest.mark.parametrize(("words", "command"), ALL, ids=NAMES)
def test_every_command_that_answers_does_so_in_json_too(words: tuple[str, ...], command: Any) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    is_group = hasattr(command, "commands")
    assert ("--json" in options) != (is_group or " ".join(words) in ANSWERS_NOTHING)


@pytest.mark.slow
def test_a_study_in_json_is_one_document_and_the_rest_is_on_stderr(
    cli: Call, spec: Path, new_workspace: Path
) -> None:
    answer = cli("study", "run", spec, "--json", "--workspace", new_workspace, "--device", "cpu")
    found = json.loads(answer.out)
    assert (found["study"], found["status"]["finished"], found["ended_by"]) == ("tiny", 3, None)
    assert found["front"] == json.loads(cli("study", "front", "--json", "--workspace", new_workspace).out)
    assert "[3/3]" in answer.err
    assert found["link"].startswith("http://")


def test_validate_answers_in_json(cli: Call, spec: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(spec.read_text().replace("trials: 3", "trials: 0").replace("id_dim: 4", "id_dims: 4"))
    answer = cli("study", "validate", spec, bad, "--json")
    good, wrong = json.loads(answer.out)["files"]
    assert (answer.code, answer.err) == (2, "")
    assert (good["file"], good["mistakes"]) == (str(spec), [])
    assert [re.sub(r".*\d: ", "", one).split(":")[0] for one in wrong["mistakes"]] == [
        "study.trials",
        "config.backbone.id_dims",
    ]
    assert parse_yaml(spec.read_text())["study"]


@pytest.mark.parametrize("place", [0, 2])
def test_verbose_may_stand_anywhere_and_says_where_an_error_comes_from(cli: Call, place: int) -> None:
    words = ["study", "run", "none.yaml"]
    quiet = cli(*words)
    answer = cli(*words[:place], "--verbose", *words[place:])
    assert "Traceback" not in quiet.err
    assert "Traceback (most recent call last)" in answer.err
    assert answer.err.splitlines()[-1] == quiet.err.splitlines()[-1]
    assert cli(*words).err == quiet.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_completes_commands(shell: str) -> None:
    def asked(**variables: str) -> str:
        done = CliRunner().invoke(app, [], prog_name="painvrl", env=variables)
        return done.stdout

    script = asked(_PAINVRL_COMPLETE=f"source_{shell}")
    assert f"_PAINVRL_COMPLETE=complete_{shell}" in script
    found = asked(
        _PAINVRL_COMPLETE=f"complete_{shell}",
        COMP_WORDS="painvrl study fr",
        COMP_CWORD="2",
        _TYPER_COMPLETE_ARGS="painvrl study fr",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "front" in found
    assert "status" not in found
