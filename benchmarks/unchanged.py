"""Does another version of the code compute the same? Record with one, check with the other.

    python -m benchmarks.unchanged record FILE.json --root TREE_BEFORE
    python -m benchmarks.unchanged check FILE.json --root TREE_AFTER

Both use the command line and the files that it leaves, on the CPU, with one thread. ``record`` keeps each
study's file with every default written out, and of every trial its configuration and all that was tracked.
``check`` trains what is recorded. Measured values have to be equal to the last digit, figures made of them
(means, intervals, volumes) to 1e-12, unless they are ``WANTED`` to differ. A search has to take the same way,
too. Where it does not, the recorded points are queued and trained in a second search.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import yaml

from painvrl.core.renamed import with_new_names

RENAMED: dict[str, str] = {
    r'"duels\.': '"comparisons.',
    r"(/ndcg)_legacy(_at_)": r"\1_invrl\2",
    r"environments/recovered": "environments/label_recovery",
    r'("rows\.\d+)\.recovered': r"\1.label_recovery",
}
"""Patterns in the text of a recording, and what stands there now, beside :mod:`painvrl.core.renamed`."""
WANTED: dict[str, float] = {r"figures confirmed .*\.(low|high)$": 1e-5}
"""Patterns of values that were changed on purpose, and how far they may have moved.

Intervals of a confirmation: since 0f7fbee Student's quantile is SciPy's, in place of a series.
"""
KINDS = {"movielens": "search", "planted": "ablation", "ablation": "ablation", "backbone": "baselines"}
FIRST = 5
"""So many trials of the search come before its sampler has a say: four presets and the base point."""
FIGURES = ("figures", "figures of all")
"""Sections of what is made of measured values."""
IGNORED = re.compile(r"^(seconds|param|confirmed)/|^peak_memory_mib")
"""What is not computed, says a parameter again, or depends on when one looks."""

Values = dict[str, Any]
Section = dict[str, Values]  # by trial or point, then by name
Line = tuple[str, int, int, int, float, str]
"""What was compared: section, trials, values, how many differ, how far at most, and one of those."""


class Tree:
    """The command line of the code in ``root``, on a new workspace."""

    def __init__(self, root: Path, workspace: Path, cache: Path) -> None:
        self.workspace = workspace
        workspace.mkdir()
        cache.mkdir(parents=True, exist_ok=True)
        (workspace / "cache").symlink_to(cache.resolve())
        place = {"PYTHONPATH": str(root.resolve()), "PAINVRL_WORKSPACE": str(workspace)}
        self._environment = {**os.environ, **place, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}

    def __call__(self, *args: object) -> str:
        """What a command prints on stdout."""
        command, start = [sys.executable, "-m", "painvrl.cli", *map(str, args)], time.perf_counter()
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        print(f"{time.perf_counter() - start:6.0f} s  {' '.join(command[3:])}", file=sys.stderr)
        if done.returncode:
            raise SystemExit(
                f"{done.stdout}\n{done.stderr}\n{' '.join(command)}: exit code {done.returncode}"
            )
        return done.stdout

    def front(self) -> tuple[Section, Values]:
        """The points of all complete trials, and figures of their front."""
        table = json.loads(self("study", "front", "--json"))
        points = {row["name"]: row["point"] | row["metrics"] for row in [*table["rows"], *table["dominated"]]}
        figures = {"names": [row["name"] for row in table["rows"]], "by IID": table["iid_only"]["name"]}
        return points, {**figures, "hypervolume": table["hypervolume"]}

    def trials(self, base: Values) -> dict[str, Section]:
        """All trials, from MLflow: what was sampled, where they are not the ``base``, and values by step."""
        found: dict[str, Section] = {"sequence": {}, "configurations": {}, "trials": {}}
        params = "select key, value from params where run_uuid = :run union all "
        params += "select key, value from tags where run_uuid = :run and key = 'pruned'"
        metrics = "select key, step, value from metrics where run_uuid = :run order by key, step"
        with closing(sqlite3.connect(self.workspace / "mlflow.db")) as db:
            for run, name in db.execute("select run_uuid, name from runs order by name").fetchall():
                if not (numbered := re.fullmatch(r".*-(\d+)", name)):
                    continue
                number, which = str(int(numbered[1])), {"run": run}
                file = next(self.workspace.glob(f"mlartifacts/*/{run}/artifacts/config.yaml"))
                config = leaves(yaml.safe_load(file.read_text(encoding="utf-8")))
                turned = {key: value for key, value in config.items() if base.get(key, ...) != value}
                values = {
                    f"{k}@{step}": v for k, step, v in db.execute(metrics, which) if not IGNORED.search(k)
                }
                found["sequence"][number] = {k: config.get(k, v) for k, v in db.execute(params, which)}
                found["configurations"][number], found["trials"][number] = turned, values
        return found


def leaves(tree: Any, path: str = "", *, lists: bool = False) -> Values:
    """The scalars of nested values by dotted path; of ``lists``, too, else a list is one value."""
    pairs = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree if lists and isinstance(tree, list) else ())
    )
    inner = [leaves(value, f"{path}.{key}" if path else str(key), lists=lists) for key, value in pairs]
    return {key: value for found in inner for key, value in found.items()} if inner else {path: tree}


def read(text: str) -> Values:
    """A study's file; its configuration by dotted path."""
    content = yaml.safe_load(text)
    return {**content, "config": leaves(content["config"])}


def write(path: Path, content: Values) -> Path:
    """The opposite of :func:`read`."""
    config: Values = {}
    for dotted, value in content["config"].items():
        *parents, name = dotted.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    path.write_text(yaml.safe_dump({**content, "config": config}, sort_keys=False), encoding="utf-8")
    return path


def settings(tree: Tree, file: Path, kind: str) -> Values:
    """A file with every default; an ablation's with two seeds."""
    seeds = ("--set", "ablation.seeds=[0, 1]") if kind == "ablation" else ()
    return read(tree("study", "run", file, "--dry-run", *seeds))


def results(tree: Tree, file: Path, content: Values, kind: str, count: int) -> dict[str, Section]:
    """What a file comes to, by section, on the CPU."""
    write(file, content)
    if kind == "ablation":
        tree("study", "run", file, "-q", "--device", "cpu")
        (path,) = tree.workspace.glob("ablations/*/table.json")
        table = leaves(json.loads(path.read_text(encoding="utf-8")), lists=True)
        return {**tree.trials(content["config"]), "figures": {"table": table}}
    if kind == "baselines":  # all of them; and two beside the own model on two seeds, with intervals
        args = ("baselines", file, "--device", "cpu", "--json", "--trials", 2)
        points = {
            f"{one['name']} {point['name']}": point
            for one in json.loads(tree(*args))["baselines"]
            for point in one["points"]
        }
        beside = json.loads(
            tree(*args, "--own", "--seeds=2", "--baseline", "popularity", "--baseline", "ridge")
        )
        return {
            "configurations": {name: point["settings"] | point["offset"] for name, point in points.items()},
            "points": {name: point["runs"][0]["metrics"] for name, point in points.items()},
            "figures": {"comparisons": leaves(beside.get("comparisons", beside.get("duels")), lists=True)},
        }
    # The front of the first trials, which no sampler chose, is confirmed on two seeds, the least possible.
    run = ("study", "run", file, "-q", "--device", "cpu", "--trials")
    tree(*run, min(FIRST, count))
    points, first = tree.front()
    few = ("--candidates", "front", "--seeds-at-most", 2)
    confirmed = json.loads(tree("study", "confirm", *few, "-q", "--device", "cpu", "--json"))
    own = max((name for name in points if name.partition(".")[2] in {"", "0"}), key=float)
    model = json.loads(tree("train", "--best", "--trial", own, "--device", "cpu", "--json"))
    tree(*run, count)
    points, whole = tree.front()
    return {
        **tree.trials(content["config"]),
        "points": points,
        "models": {own: {**model["metrics"], **model["test"]["metrics"]}},
        "figures": {"front": first, "confirmed": leaves(confirmed, lists=True)},
        "figures of all": {"front": whole},
    }


def record(root: Path, source: Path, folder: Path, cache: Path, count: int) -> Values:
    """All that :func:`check` needs of a study."""
    kind, tree = KINDS[source.stem], Tree(root, folder / source.stem, cache)
    content = settings(tree, source, kind)
    found = results(tree, folder / source.name, content, kind, count)
    file = read(source.read_text(encoding="utf-8"))
    return {"file": file, "settings": content, "count": count, "results": found}


def check(root: Path, parts: Values, only: list[str], folder: Path, cache: Path) -> Iterator[Line]:
    """Train what is recorded, and compare."""
    for name in [name for name in parts if name in only]:
        kind, part = KINDS[name], parts[name]
        content, before, count = part["settings"], part["results"], part["count"]
        tree, file = Tree(root, folder / name, cache), folder / f"{name}.yaml"
        defaults = settings(tree, write(file, part["file"]), kind)
        yield compared(name, "settings", {"": leaves(content)}, {"": leaves(defaults)})
        after = results(tree, file, content, kind, count)
        if kind == "search" and before["sequence"] != after["sequence"]:
            yield compared(name, "sequence", before["sequence"], after["sequence"])
            content, before = queued(content, before)
            after = results(Tree(root, folder / f"{name}-queued", cache), file, content, kind, count)
        for section in before:
            yield compared(name, section, before[section], after[section])


def queued(content: Values, before: dict[str, Section]) -> tuple[Values, dict[str, Section]]:
    """A search whose trials are all in the file, and what of ``before`` it comes to: none is pruned.

    Of a trial that was, only the objectives and losses up to there are tracked in one that is not.
    """
    sequence, followed = before["sequence"], (*content["objectives"], "loss")
    points = [{key: each[key] for key in each if key in content["space"]} for each in sequence.values()]
    trials = {
        number: {
            name: value
            for name, value in values.items()
            if "pruned" not in sequence[number] or name.partition("@")[0].endswith(followed)
        }
        for number, values in before["trials"].items()
    }
    left = {section: before[section] for section in before if section not in {"sequence", "figures of all"}}
    return {**content, "points": [point for point in points if point]}, {**left, "trials": trials}


def compared(part: str, section: str, before: Section, after: Section) -> Line:
    """How a section differs; what only ``after`` has is new, and no difference."""
    gaps = {
        f"{trial} {name}: {value} -> {other}": gap
        for trial, recorded in before.items()
        for name, value in recorded.items()
        for other in [after.get(trial, {}).get(name, "missing")]
        if (gap := distance(value, other)) > allowed(f"{section} {trial} {name}")
    }
    worst = max(gaps, key=lambda gap: gaps[gap], default="")
    count = sum(map(len, before.values()))
    return f"{part}: {section}", len(before), count, len(gaps), gaps.get(worst, 0.0), worst


def allowed(value: str) -> float:
    """How far a value may have moved."""
    usual = 1e-12 if value.startswith(FIGURES) else 0.0
    return next((most for pattern, most in WANTED.items() if re.search(pattern, value)), usual)


def distance(one: object, other: object) -> float:
    """Of two numbers relative to at least 1; of anything else infinite, unless it is equal."""
    if one == other:
        return 0.0
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) / max(1.0, abs(one))
    return float("inf")


def machine() -> str:
    """What sums depend on to the last digit, beside the code."""
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def main() -> None:
    """Record, or check and say what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=["record", "check"])
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).parent.parent, help="the tree whose code is run"
    )
    parser.add_argument("--studies", type=Path, help="folder of the files to record; default: the tree's")
    parser.add_argument(
        "--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="STUDY", help=", ".join(KINDS)
    )
    parser.add_argument("--trials", type=int, default=40, help="of the search")
    parser.add_argument(
        "--cache", type=Path, help="kept between calls; by default even the data are read again"
    )
    asked = parser.parse_args()
    if not (asked.root / "painvrl").is_dir():
        parser.error(f"--root: no painvrl in {asked.root}")
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name), asked.cache or Path(name, "cache")
        if asked.do == "record":
            recorded: Values = {"machine": machine(), "parts": {}}
            for study in asked.only:
                source = (asked.studies or asked.root / "studies") / f"{study}.yaml"
                recorded["parts"][study] = record(asked.root, source, folder, cache, asked.trials)
                asked.file.write_text(json.dumps(recorded, indent=0), encoding="utf-8")
            return
        text = asked.file.read_text(encoding="utf-8")
        for pattern, now in RENAMED.items():
            text = re.sub(pattern, now, text)
        recorded = with_new_names(json.loads(text))
        print(f"recorded with {recorded['machine']}, checked with {machine()}\n")
        print("| what | trials | values | differ | largest difference | where |\n|" + " --- |" * 6)
        for line in check(asked.root, recorded["parts"], asked.only, folder, cache):
            what, _, _, differ, _, _ = line
            print("| " + " | ".join(map(str, line)) + " |", flush=True)
            # TPE orders what it samples by name: after renaming it may go another way.
            failed |= differ > 0 and not (RENAMED and what.endswith(": sequence"))
    sys.exit(failed)


if __name__ == "__main__":
    main()
