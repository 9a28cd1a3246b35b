"""Every command and every YAML block of the documents is one that works."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from typer.testing import CliRunner

from painvrl.cli import app
from painvrl.core.yamlfile import dump_yaml, parse_yaml, validated
from painvrl.data.sources import DataConfig
from painvrl.data.sources import text as encoder
from painvrl.run.config import TrainConfig
from painvrl.study.ablation.spec import AblationSpec, check_ablation
from painvrl.study.file.spec import StudySpec, check_spec

ROOT = Path(__file__).parent.parent
FIRST = (ROOT / "README.md", ROOT / "docs" / "tutorial.md")  # what a reader runs first
FOUND = {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("mlflow/*.md")}
DOCUMENTS = [*FIRST, *sorted(FOUND - set(FIRST))]
PREFIX = ".venv/bin/painvrl "


def blocks(language: str) -> list[tuple[str, str]]:
    """Every fenced block in ``language``: the document's name and the text."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (document.relative_to(ROOT).as_posix(), text)
        for document in DOCUMENTS
        for text in fence.findall(document.read_text(encoding="utf-8"))
    ]


def commands() -> list[str]:
    """Every command of a ``console`` block, in order."""
    lines = [line for _, text in blocks("console") for line in text.splitlines()]
    assert all(line.startswith("$ ") for line in lines), "a console block holds commands only"
    return [line.removeprefix("$ ") for line in lines]


def _make(target: str, *recipe: str) -> Callable[[], None]:
    """``make TARGET`` would take minutes: check what it would run."""

    def check() -> None:
        # The tests may run under make themselves, which hands its options down.
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        planned = subprocess.run(
            ["make", "-n", target], cwd=ROOT, env=plain, capture_output=True, text=True, check=True
        ).stdout
        for line in recipe:
            assert line in planned

    return check


def _tested_in(path: str, test: str) -> Callable[[], None]:
    """The command has a test of its own."""

    def check() -> None:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")

    return check


# Commands that are not run as they stand, with what is checked in their place.
STAND_INS: dict[str, Callable[[], None]] = {
    "make study": _make("study", ".venv/bin/painvrl study run studies/movielens.yaml"),
    "make test": _make("test", "-m pytest", "-m 'not slow'"),
    f"{PREFIX}ui": _tested_in(
        "tests/cli/test_ui.py", "test_the_ui_serves_the_runs_and_prints_the_front_link"
    ),
    f"{PREFIX}serve": _tested_in("tests/cli/test_serve.py", "test_the_model_answers_until_ctrl_c"),
    f"{PREFIX}data encode data/items.csv --key id --text title --model my-model -o texts.npz": _tested_in(
        "tests/data/test_encoders.py",
        "test_texts_become_a_file_that_a_study_reads_and_missing_ones_are_counted",
    ),
    ".venv/bin/torchrun --nproc-per-node 2 -m painvrl.cli train movielens.yaml": _tested_in(
        "tests/cli/test_train.py", "test_processes_of_torchrun_train_what_one_process_does"
    ),
    ".venv/bin/optuna-dashboard sqlite:///workspace/optuna.db": _tested_in(
        "tests/study/store/test_dashboard.py", "test_the_command_of_the_documents_serves_it"
    ),
}


def test_the_readme_shows_the_two_commands() -> None:
    assert {"make study", "make test"} <= set(commands())


def test_every_command_is_run_or_has_a_stand_in() -> None:
    unknown = [one for one in commands() if not one.startswith(PREFIX) and one not in STAND_INS]
    assert unknown == []
    assert [one for one in STAND_INS if one not in commands()] == [], "a stand-in for no command"


@pytest.mark.parametrize("command", STAND_INS)
def test_a_stand_in_holds(command: str) -> None:
    STAND_INS[command]()


@pytest.mark.slow
def test_the_commands_of_the_documents_work_in_their_order(
    tmp_path: Path,
    tiny_config: TrainConfig,
    empty_mlflow: Path,
    sheets: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The real encoder takes seconds to load.
    monkeypatch.setattr(
        encoder, "_encode", lambda texts: (np.ones((len(texts), encoder.WIDTH), np.float32), 0)
    )
    # The files that the commands name, with tiny content; the current directory is tmp_path.
    spec = {
        "study": {"name": "movielens", "trials": 3, "sampler": "random"},
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
        "config": tiny_config.model_dump(mode="json"),
        "presets": ["irm"],
        "pruning": False,
        "space": {
            "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8},
            "fusion.popularity_weight": {"type": "float", "low": -0.1, "high": 0.1},  # swept
        },
    }
    (tmp_path / "workspace").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "workspace")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "movielens.yaml").write_text(dump_yaml(validated(StudySpec, spec)))
    backbone = {**spec, "study": {"name": "backbone", "trials": 3}}
    (tmp_path / "studies" / "backbone.yaml").write_text(dump_yaml(validated(StudySpec, backbone)))
    ablation = {
        "ablation": {"name": "movielens-ablation", "seeds": [0], "presets": ["ultragcn", "painvrl"]},
        "config": tiny_config.model_dump(mode="json"),
    }
    (tmp_path / "studies" / "ablation.yaml").write_text(dump_yaml(validated(AblationSpec, ablation)))
    planted = {**ablation, "ablation": {"name": "planted", "seeds": [0], "presets": ["painvrl"]}}
    (tmp_path / "studies" / "planted.yaml").write_text(dump_yaml(validated(AblationSpec, planted)))
    (tmp_path / "config.yaml").write_text(dump_yaml(tiny_config))
    (tmp_path / "data").mkdir()
    for sheet in sheets:
        sheet.rename(tmp_path / "data" / sheet.name)
    ran = 0
    for command in commands():
        if command in STAND_INS:
            continue
        words = shlex.split(command.removeprefix(PREFIX))
        words = [_some_run() if word == "RUN_ID" else word for word in words]
        result = CliRunner().invoke(app, words, prog_name="painvrl")
        assert result.exit_code == 0, f"{command}\n{result.stdout}{result.stderr}"
        assert result.stdout.strip(), command
        ran += 1
    assert ran > 8


def _some_run() -> str:
    """The MLflow run of a trial on the front."""
    out = CliRunner().invoke(app, ["study", "front", "--json"], prog_name="painvrl").stdout
    return str(json.loads(out)["rows"][0]["run_id"])


@pytest.mark.parametrize(("document", "text"), blocks("yaml"))
def test_every_yaml_block_is_valid(document: str, text: str) -> None:
    content: dict[str, Any] = parse_yaml(text, file=document)
    if "ablation" in content:
        check_ablation(validated(AblationSpec, content, file=document))
    elif "space" in content:
        check_spec(validated(StudySpec, content, file=document))
    elif set(content) <= {"study", "pruning", "constraints", "presets", "points", "sweep"}:
        whole = {
            "objectives": ["iid/ndcg_at_20"],
            "config": {"data": {"kind": "planted"}},
            "study": {"name": "x"},
        }
        hyperparameter = {"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8}}
        check_spec(validated(StudySpec, {**whole, "space": hyperparameter, **content}, file=document))
    elif set(content) == {"data"}:
        TypeAdapter(DataConfig).validate_python(content["data"])
    else:
        validated(TrainConfig, content, file=document)


def anchors(page: str) -> set[str]:
    """What a link may name in a page: its headings, as sites of Markdown spell them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", one.lower()).strip()) for one in headings}


def test_links_between_documents_lead_somewhere() -> None:
    built = script("reference").pages()  # `make docs` makes these
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^)#:]*)\)", text):
            page = document.parent / target if target else document
            assert page.exists() or target in built, f"{document.name} links to {target}"
            if anchor:
                there = anchors(page.read_text(encoding="utf-8") if page.exists() else built[target])
                assert anchor in there, f"{document.name} links to {target}#{anchor}"


def script(name: str) -> Any:
    """A script of the folder docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_map_in_the_architecture_is_what_the_modules_say_of_themselves() -> None:
    module = script("map")
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert module.written(page) == page, "run `make map`"
    there = {path.name for path in (ROOT / "painvrl").iterdir() if (path / "__init__.py").is_file()}
    assert set(module.FIRST) == there


def test_the_directions_in_the_architecture_are_the_contract() -> None:
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(one for one in contracts["contracts"] if one["id"] == "layers")["layers"]
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert "\n".join(f"    {layer}" for layer in layers) in text


def test_the_reference_of_keys_has_every_key_of_the_schema_with_its_default_and_its_meaning() -> None:
    known = json.loads((ROOT / "studies" / "schema.json").read_text(encoding="utf-8"))["$defs"]
    page = script("reference").pages()["reference/keys.md"]
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(known) - {"Value"}  # any number or text, which no file names
    for name, text in sections.items():
        for key, schema in known[name].get("properties", {}).items():
            if name == "Space":
                assert f"- `{key}`\n" in text
                continue
            row = next(line for line in text.splitlines() if line.startswith(f"| `{key}` |"))
            default, meaning = (cell.replace("\\|", "|") for cell in re.split(r" \| ?", row)[2:4])
            if "default" in schema:
                assert json.loads(default.strip("`")) == schema["default"]
            assert (default == "required") == (key in known[name].get("required", ()))
            assert meaning == schema["description"].replace("``", "`")
    assert "| `id_dropout` | number, at least 0, below 1 | `0.0` | Probability that " in page
    targets = re.findall(r"\]\(#(\w+)\)", page)
    assert set(targets) <= {name.lower() for name in sections}


def test_the_reference_of_commands_has_the_help_of_every_command() -> None:
    page = script("reference").pages()["reference/commands.md"]

    def check(*words: str) -> int:
        shown = CliRunner().invoke(app, [*words, "--help"], prog_name="painvrl", env={"COLUMNS": "100"})
        assert f"## {' '.join(('painvrl', *words))}\n\n```text\n{shown.stdout.strip()}\n```" in page
        _, _, below = shown.stdout.partition("\nCommands:\n")
        return 1 + sum(check(*words, name) for name in re.findall(r"^  (\w+)  +\S", below, re.MULTILINE))

    assert check() == page.count("\n## ") > 10


def test_the_reference_of_the_api_has_every_public_module() -> None:
    pages = script("reference").pages()
    listed = {name for text in pages.values() for name in re.findall(r"^::: (\S+)", text, re.MULTILINE)}
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "painvrl").rglob("*.py")]
    assert listed == {
        ".".join(path.parent.parts if path.name == "__init__" else path.parts)
        for path in files
        if path.name == "__init__" or not path.name.startswith("_")
    }


def test_the_front_of_the_readme_is_that_of_the_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:point|for comparison).*$", readme, re.MULTILINE)
    assert len(rows) > 5
    assert "\n".join(rows) in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_the_exit_codes_of_the_documents_are_those_of_the_code() -> None:
    from painvrl.cli import root

    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    codes = (0, root.INTERNAL_ERROR, root.USAGE, root.NOTHING_FEASIBLE, root.REGRESSED)
    codes += (root.INTERRUPTED, root.UNREAD)
    assert [int(code) for code in table] == list(codes)
