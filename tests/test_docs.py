"""Every command and every YAML block of the documents is one that works."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from typer.testing import CliRunner

from painvrl.cli import app
from painvrl.core.yamlfile import dump_yaml, parse_yaml, validated
from painvrl.data.sources import DataConfig
from painvrl.run.config import TrainConfig
from painvrl.study.ablation.spec import AblationSpec, check_ablation
from painvrl.study.file.spec import StudySpec, check_spec

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("mlflow/*.md")])
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


def test_the_commands_of_the_documents_work_in_their_order(
    tmp_path: Path, tiny_config: TrainConfig, empty_mlflow: Path
) -> None:
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
    import json

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
        knob = {"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8}}
        check_spec(validated(StudySpec, {**whole, "space": knob, **content}, file=document))
    elif set(content) == {"data"}:
        TypeAdapter(DataConfig).validate_python(content["data"])
    else:
        validated(TrainConfig, content, file=document)


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_map_in_the_architecture_is_what_the_modules_say_of_themselves() -> None:
    path = ROOT / "docs" / "map.py"
    spec = importlib.util.spec_from_file_location("map_of_modules", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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


def test_the_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    from painvrl.cli import root

    table = re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    codes = (0, root.INTERNAL_ERROR, root.USAGE, root.NOTHING_FEASIBLE, root.REGRESSED)
    codes += (root.INTERRUPTED, root.UNREAD)
    assert [int(code) for code in table] == list(codes)
