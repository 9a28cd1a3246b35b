"""What proves that nothing changed must see that something did."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from painvrl import __version__

ROOT = Path(__file__).parent.parent.parent
Script = Callable[..., int]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """The script, as a function of its arguments; its exit code."""
    from benchmarks import unchanged

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["unchanged", *map(str, arguments)])
        code: Any = 0
        try:
            unchanged.main()
        except SystemExit as end:
            code = end.code or 0
        return int(code)  # fails where a message stands in its place

    return call


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands need not import everything again."""
    from typer.testing import CliRunner

    from benchmarks.unchanged import Tree
    from painvrl.cli import app

    def call(tree: Tree, *arguments: object) -> str:
        env = {"PAINVRL_WORKSPACE": str(tree.workspace)}
        result = CliRunner().invoke(app, [*map(str, arguments)], env=env, catch_exceptions=False)
        assert result.exit_code == 0, (arguments, result.stderr)
        return result.stdout

    monkeypatch.setattr(Tree, "__call__", call)


@pytest.fixture
def studies(tmp_path: Path, tiny_settings: dict[str, Any]) -> Path:
    """A tiny search and a tiny ablation on planted data, under the names that the script knows."""
    search = {
        "study": {"name": "tiny", "sampler": "tpe", "startup_trials": 2},
        "presets": ["ultragcn"],
        "pruning": {"eta": 100, "evaluations": [1]},
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
        "config": tiny_settings,
        "space": {
            "backbone.l2": {"type": "float", "low": 0.01, "high": 0.6, "log": True},
            "fusion.popularity_weight": {"type": "float", "low": -0.1, "high": 0.02},
        },
    }
    settings = {"name": "rows", "presets": [], "reference": "plain", "metrics": ["ndcg"], "cutoff": 20}
    variants = {"plain": {"mask.source": "ones", "fusion.kind": "invariant"}, "half": {"mask.source": "half"}}
    ablation = {"ablation": settings, "config": tiny_settings, "variants": variants}
    for name, content in (("movielens", search), ("planted", ablation)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return tmp_path


def rows(out: str) -> dict[str, list[str]]:
    """The printed table by its first column."""
    cells = [line.strip("| ").split(" | ") for line in out.splitlines() if ": " in line and "|" in line]
    return {first: rest for first, *rest in cells}


@pytest.mark.slow
@pytest.mark.usefixtures("_in_this_process")
def test_equal_code_computes_the_same_and_a_changed_value_is_seen(
    script: Script, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "before.json"
    kept = ("--cache", tmp_path / "cache")
    assert (
        script("record", file, "--studies", studies, "--only", "movielens", "planted", "--trials", 7, *kept)
        == 0
    )
    capsys.readouterr()
    assert script("check", file, *kept) == 0
    table = rows(capsys.readouterr().out)
    assert {row[2] for row in table.values()} == {"0"}
    assert [table[f"movielens: {section}"][0] for section in ("sequence", "trials", "models")] == [
        "7",
        "7",
        "1",
    ]
    assert [table[f"planted: {section}"][0] for section in ("sequence", "trials", "figures")] == [
        "4",
        "4",
        "1",
    ]
    assert all(int(row[1]) > 0 for row in table.values())
    results = json.loads(file.read_text())["parts"]["movielens"]["results"]
    pruned = [number for number, each in results["sequence"].items() if "pruned" in each]
    assert pruned, "one that was stopped early is compared, too, up to there"
    assert all(name.startswith("training/") for number in pruned for name in results["trials"][number])
    assert all(results["trials"][number] for number in pruned)
    assert not [name for name in results["trials"]["0"] if "seconds" in name or "memory" in name]

    # The sampler goes another way; the recorded points are trained all the same, and one value is another.
    recorded = json.loads(file.read_text())
    part = recorded["parts"]["movielens"]
    assert part["settings"]["study"]["seed"] == 0
    part["settings"]["study"]["seed"] = 1
    name = next(name for name in part["results"]["points"] if name.startswith("2"))
    value = part["results"]["points"][name]["iid/ndcg_at_20"]
    part["results"]["points"][name]["iid/ndcg_at_20"] = value + 2**-40
    file.write_text(json.dumps({**recorded, "parts": {"movielens": part}}))
    assert script("check", file, *kept) == 1
    table = rows(capsys.readouterr().out)
    differs = {what for what, row in table.items() if row[2] != "0"}
    assert differs == {"movielens: settings", "movielens: sequence", "movielens: points"}
    assert table["movielens: points"][2:4] == ["1", str(2**-40)]
    assert table["movielens: points"][4].startswith(f"{name} iid/ndcg_at_20: ")


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording of one training, and code that computes the same."""
    from benchmarks import unchanged

    found = {
        "sequence": {"0": {"mask.sparsity": 0.5}},
        "trials": {"0": {"iid/ndcg_at_20@0": 0.25, "size@1": 3.0}},
    }
    figures = {"front": {"hypervolume": 0.5, "names": ["0"]}}
    content = {
        "config": {"mask.sparsity": 0.5, "training.monitor": "iid/ndcg_at_20"},
        "space": {"mask.sparsity": {}},
        "objectives": ["iid/ndcg_at_20"],
    }
    part = {"file": content, "settings": content, "count": 1, "results": {**found, "figures": figures}}
    monkeypatch.setattr(unchanged, "settings", lambda *_: content)
    monkeypatch.setattr(unchanged, "results", lambda *_: part["results"])
    path = tmp_path / "before.json"
    path.write_text(
        json.dumps({"machine": "torch 0, DEFAULT", "parts": {"movielens": part}}), encoding="utf-8"
    )
    return path


def test_what_is_wanted_to_differ_may_move_so_far(
    script: Script, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import unchanged

    monkeypatch.setattr(unchanged, "WANTED", {"figures front hyper": 1e-5})
    text = recorded.read_text()
    for size, code in ((0.500001, 0), (0.50001001, 1)):
        recorded.write_text(text.replace('"hypervolume": 0.5', f'"hypervolume": {size}'))
        assert script("check", recorded) == code
    recorded.write_text(text.replace("0.25", "0.2500001"))
    assert script("check", recorded) == 1


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("0.25", "0.25", 0),
        ("0.25", "0.25000000000000006", 1),
        ("3.0", "4.0", 1),
        ('"size@1"', '"size@2"', 1),
        ('"names": ["0"]', '"names": ["1"]', 1),
        ('"hypervolume": 0.5', '"hypervolume": 0.5000000000001', 0),
        ('"hypervolume": 0.5', '"hypervolume": 0.50000000001', 1),
    ],
)
def test_measured_values_are_equal_and_figures_nearly(
    script: Script, recorded: Path, before: str, after: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = recorded.read_text()
    assert before in text
    recorded.write_text(text.replace(before, after))
    assert script("check", recorded) == code
    assert "recorded with torch 0, DEFAULT, checked with torch " in capsys.readouterr().out


def test_what_has_another_name_now_is_found(
    script: Script, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import unchanged

    text = recorded.read_text()
    assert '"training.monitor"' in text
    recorded.write_text(text.replace('"training.monitor"', '"training.old"'))
    assert script("check", recorded) == 1
    monkeypatch.setattr(unchanged, "RENAMED", {r'"training\.old"': '"training.monitor"'})
    assert script("check", recorded) == 0


def test_where_a_sampler_goes_another_way_the_recorded_points_are_queued(
    script: Script, recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import unchanged

    same, asked = unchanged.results, []

    def results(tree: unchanged.Tree, file: Path, content: dict[str, Any], *rest: Any) -> Any:
        asked.append(content.get("points"))
        found = same(tree, file, content, *rest)
        return found if asked[-1] else {**found, "sequence": {"0": {"mask.sparsity": 0.4}}}

    monkeypatch.setattr(unchanged, "results", results)
    monkeypatch.setattr(unchanged, "RENAMED", {})
    assert script("check", recorded) == 1
    assert asked == [None, [{"mask.sparsity": 0.5}]]
    table = rows(capsys.readouterr().out)
    assert {what for what, row in table.items() if row[2] != "0"} == {"movielens: sequence"}
    # TPE takes its parameters in the order of their names: other names, another way.
    monkeypatch.setattr(unchanged, "RENAMED", {"nothing": "nothing"})
    assert script("check", recorded) == 0


def test_a_file_is_written_as_it_was_read(tmp_path: Path) -> None:
    from benchmarks.unchanged import leaves, read, write

    content = {
        "config": {"data": {"files": {}, "ks": [5, 20]}, "seed": 0},
        "space": {"mask.sparsity": {"low": 0.1}},
    }
    flat = read(yaml.safe_dump(content))
    assert flat["config"] == {"data.files": {}, "data.ks": [5, 20], "seed": 0}
    assert yaml.safe_load(write(tmp_path / "a.yaml", flat).read_text()) == content
    assert leaves(content["config"], lists=True)["data.ks.1"] == 20


def test_the_code_of_the_named_tree_runs_with_one_thread(
    tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.unchanged import Tree

    assert __version__ in Tree(ROOT, tmp_path / "here", tmp_path / "cache")("--version")
    package = tmp_path / "other" / "painvrl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    said = "import os\nprint(os.environ['OMP_NUM_THREADS'], os.environ['PAINVRL_WORKSPACE'])\n"
    (package / "cli.py").write_text(said, encoding="utf-8")
    workspace = tmp_path / "there"
    assert Tree(package.parent, workspace, tmp_path / "cache")() == f"1 {workspace}\n"
    assert (workspace / "cache").resolve() == tmp_path / "cache"
    assert script("record", tmp_path / "x.json", "--root", tmp_path) == 2
    assert re.search("no painvrl in", capsys.readouterr().err)


def test_of_a_trial_that_was_pruned_the_followed_curves_are_compared_where_it_is_not() -> None:
    from benchmarks.unchanged import queued

    content = {"objectives": ["iid/ndcg_at_20"], "space": {"mask.sparsity": {}}}
    curves = {"training/pretrain/loss@5": 0.5, "training/pretrain/iid/ndcg_at_20@5": 0.25}
    values = {**curves, "training/pretrain/iid/ndcg_at_5@5": 0.125}
    sampled = {"mask.sparsity": 0.5, "seed": 0}
    before = {
        "sequence": {
            "0": {"preset": "erm", "seed": 0},
            "1": sampled,
            "2": {**sampled, "pruned": "pretrain/5"},
        },
        "trials": dict.fromkeys("012", values),
        "figures of all": {"front": {"hypervolume": 0.5}},
        "points": {"1.0": {"iid/ndcg_at_20": 0.25}},
    }
    file, left = queued(content, before)
    assert file["points"] == [{"mask.sparsity": 0.5}] * 2
    assert left == {"trials": {"0": values, "1": values, "2": curves}, "points": before["points"]}
