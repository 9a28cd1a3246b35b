"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from painvrl.core import registry

ROOT = Path(__file__).parent.parent
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "painvrl").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_examples_are_found() -> None:
    assert {"painvrl.stats.dominance", "painvrl.core.rng", "painvrl.invariance.pareto"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_an_example_gives_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name.removesuffix(".__init__"))
    monkeypatch.setattr(registry, "REGISTRIES", list(registry.REGISTRIES))  # an example makes one more
    said: list[str] = []
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(example, out=said.append)
    assert "".join(said) == ""
