from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from painvrl.core.tables import TextTable
from painvrl.core.workspace import Workspace
from painvrl.engine.job import DataSummary
from painvrl.study.file.spec import StudySpec
from painvrl.study.report.header import Header, header_of
from painvrl.study.store.storage import Attr, open_study

Make = Callable[..., Any]

PARTS = TextTable(columns=("part", "users"), rows=(("train", "60"), ("iid_valid", "9")))
JOINED = TextTable(columns=("joined",), rows=(("look",),))
DATA = DataSummary(fingerprint="planted-1", tables=(PARTS, JOINED), warnings=("few items",))


def read(workspace: Workspace) -> Header | None:
    """the statistics of the only study as it stands."""
    return header_of(open_study(None, workspace))


@pytest.mark.slow
def test_the_statistics_and_the_sampler_are_those_of_the_last_run(
    go: Make, formula: Any, spec: StudySpec, workspace: Workspace
) -> None:
    formula.data = DATA
    go(spec, formula, trials=2)
    statistics = read(workspace)
    assert statistics is not None
    assert statistics.tables == (PARTS, JOINED)
    assert statistics.warnings == ("few items",)
    assert statistics.sampler == "tpe, seed 0, 2 start-up trials"
    settings = spec.study.model_copy(update={"sampler": "random", "storage": workspace.storage_url})
    go(spec.model_copy(update={"study": settings}), formula, trials=3)
    stored = open_study(None, workspace)
    again = read(workspace)
    assert again is not None
    assert again.sampler == "random, seed 0, 2 start-up trials"
    assert "sqlite" not in str(stored.study.user_attrs[Attr.SPLIT]), "a storage's URL may hold a password"


@pytest.mark.slow
def test_a_study_of_an_older_version_has_no_statistics(
    go: Make, formula: Any, spec: StudySpec, workspace: Workspace
) -> None:
    go(spec, formula, trials=1)
    stored = open_study(None, workspace)
    stored.study.set_user_attr(Attr.SPLIT, None)
    assert read(workspace) is None


def test_the_one_table_that_an_older_version_noted_is_shown(
    go: Make, formula: Any, spec: StudySpec, workspace: Workspace
) -> None:
    go(spec, formula, trials=1)
    stored = open_study(None, workspace)
    noted = {"columns": ["part", "users"], "rows": [["train", "60"], ["iid_valid", "9"]], "settings": {}}
    stored.study.set_user_attr(Attr.SPLIT, noted)
    statistics = read(workspace)
    assert statistics is not None
    assert (statistics.tables, statistics.warnings) == ((PARTS,), ())
