"""The report's first lines: what was searched, on which data, and how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from painvrl.core.tables import TextTable
from painvrl.study.file.spec import StudySettings
from painvrl.study.store.records import TrialRecord, TrialState, finished_here
from painvrl.study.store.storage import Attr, StoredStudy
from painvrl.study.trial.objective import DataSummary


@dataclass(frozen=True, kw_only=True)
class Card:
    """The split's card as tables, and the study's settings, as the last run of the study noted them.

    ``warnings``: what of the data looks wrong, a sentence each.
    """

    tables: tuple[TextTable, ...]
    warnings: tuple[str, ...]
    settings: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a study is.

    Attributes:
        counts: trials by state; states without trials are left out.
        finished: complete, pruned and failed ones, those taken over left out. wanted: so many did the last
            run ask for.
        sampler: in words; ``None`` if no run noted it.
        card: ``None`` if no run noted it.
    """

    study: str
    objectives: tuple[str, ...]
    counts: Mapping[str, int]
    finished: int
    wanted: int
    sampler: str | None
    card: Card | None


def note_card(study: StoredStudy, settings: StudySettings, data: DataSummary) -> None:
    """Keep with the study what its report shows of data and settings: the report loads no data."""
    noted = {
        "tables": [{"columns": table.columns, "rows": table.rows} for table in data.tables],
        "card": dict(data.card),
        "warnings": list(data.warnings),
        "settings": settings.model_dump(mode="json", exclude={"storage"}),
    }
    study.study.set_user_attr(Attr.CARD, noted)


def header_of(study: StoredStudy, records: Sequence[TrialRecord]) -> Header:
    """What a study is, and how far it has come with these trials."""
    counts = Counter(record.state for record in records)
    card = _card(study)
    return Header(
        study=study.name,
        objectives=study.objectives,
        counts={state.value: counts[state] for state in TrialState if counts[state]},
        finished=len(finished_here(records)),
        wanted=study.wanted,
        sampler=None if card is None else _sampler(card.settings),
        card=card,
    )


def _card(study: StoredStudy) -> Card | None:
    noted = study.study.user_attrs.get(Attr.CARD)
    if noted is None:
        return None
    # A study of an earlier version noted one table, and no warnings.
    tables = noted.get("tables", [noted])
    return Card(
        tables=tuple(
            TextTable(columns=tuple(table["columns"]), rows=tuple(tuple(row) for row in table["rows"]))
            for table in tables
        ),
        warnings=tuple(noted.get("warnings", ())),
        settings=dict(noted["settings"]),
    )


def _sampler(settings: Mapping[str, object]) -> str:
    startup = settings.get("startup_trials")
    return f"{settings.get('sampler')}, seed {settings.get('seed')}, {startup} start-up trials"
