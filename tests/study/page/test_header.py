from __future__ import annotations

from collections.abc import Callable
from typing import Any

from painvrl.core.tables import TextTable
from painvrl.core.workspace import Workspace
from painvrl.study.file.spec import StudySpec
from painvrl.study.page.header import Header, header_of
from painvrl.study.store.storage import Attr, open_study
from painvrl.study.trial.objective import DataSummary

Make = Callable[..., Any]

PARTS = TextTable(columns=("part", "users"), rows=(("train", "60"), ("iid_valid", "9")))
JOINED = TextTable(columns=("joined",), rows=(("look",),))
DATA = DataSummary(fingerprint="planted-1", tables=(PARTS, JOINED), warnings=("few items",))


def read(workspace: Workspace) -> Header:
    """The header of the only study as it stands."""
    stored = open_study(None, workspace)
    return header_of(stored, stored.trials())


def test_the_card_and_the_sampler_are_those_of_the_last_run(
    go: Make, formula: Any, spec: StudySpec, workspace: Workspace
) -> None:
    formula.data = DATA
    go(spec, formula, trials=2)
    header = read(workspace)
    assert header.card is not None
    assert header.card.tables == (PARTS, JOINED)
    assert header.card.warnings == ("few items",)
    assert header.sampler == "tpe, seed 0, 2 start-up trials"
    assert (header.study, header.finished, header.wanted) == ("toy", 2, 2)
    assert header.counts == {"complete": 2}
    settings = spec.study.model_copy(update={"sampler": "random", "storage": workspace.storage_url})
    go(spec.model_copy(update={"study": settings}), formula, trials=3)
    stored = open_study(None, workspace)
    assert read(workspace).sampler == "random, seed 0, 2 start-up trials"
    assert "sqlite" not in str(stored.study.user_attrs[Attr.CARD]), "a storage's URL may hold a password"


def test_a_study_of_an_older_version_has_no_card(
    go: Make, formula: Any, spec: StudySpec, workspace: Workspace
) -> None:
    go(spec, formula, trials=1)
    stored = open_study(None, workspace)
    stored.study.set_user_attr(Attr.CARD, None)
    header = read(workspace)
    assert (header.card, header.sampler) == (None, None)


def test_the_one_table_that_an_older_version_noted_is_shown(
    go: Make, formula: Any, spec: StudySpec, workspace: Workspace
) -> None:
    go(spec, formula, trials=1)
    stored = open_study(None, workspace)
    noted = {"columns": ["part", "users"], "rows": [["train", "60"], ["iid_valid", "9"]], "settings": {}}
    stored.study.set_user_attr(Attr.CARD, noted)
    card = read(workspace).card
    assert card is not None
    assert (card.tables, card.warnings) == ((PARTS,), ())
