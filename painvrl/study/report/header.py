"""What a study notes of its data and settings for its report, which loads no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from painvrl.core.tables import Result, TextTable
from painvrl.engine.job import DataSummary
from painvrl.study.file.spec import StudySettings
from painvrl.study.store.storage import Attr, StoredStudy, sound


@dataclass(frozen=True, kw_only=True)
class Header:
    """The split's statistics as tables, and the study's settings, as the last run of the study noted them.

    ``warnings``: what of the data looks wrong, a sentence each.
    """

    tables: tuple[TextTable, ...]
    warnings: tuple[str, ...]
    settings: Mapping[str, object]

    @property
    def sampler(self) -> str:
        """In words."""
        sampler, seed, startup = map(self.settings.get, ("sampler", "seed", "startup_trials"))
        return f"{sampler}, seed {seed}, {startup} start-up trials"


def note_header(study: StoredStudy, settings: StudySettings, data: DataSummary) -> None:
    """Keep with the study what its report shows of data and settings: the report loads no data."""
    noted = {
        "tables": [{"columns": table.columns, "rows": table.rows} for table in data.tables],
        "card": dict(data.statistics),
        "warnings": list(data.warnings),
        "settings": settings.model_dump(mode="json", exclude={"storage"}),
    }
    study.study.set_user_attr(Attr.SPLIT, noted)


def header_of(study: StoredStudy) -> Header | None:
    """What the last run of a study noted; ``None`` if none did."""
    noted = study.study.user_attrs.get(Attr.SPLIT)
    if noted is None:
        return None
    with sound(study.name, Attr.SPLIT):
        # A study of an earlier version noted one table, and no warnings.
        tables = noted.get("tables", [noted])
        return Header(
            tables=tuple(
                TextTable(columns=tuple(table["columns"]), rows=tuple(tuple(row) for row in table["rows"]))
                for table in tables
            ),
            warnings=tuple(noted.get("warnings", ())),
            settings=dict(noted["settings"]),
        )


@dataclass(frozen=True, kw_only=True)
class NotedGate:
    """What the specification gate said of the study's data and split.

    Attributes:
        table: for people, and sentences: below it.
        figures: for programs.
    """

    table: TextTable
    sentences: tuple[str, ...]
    figures: Mapping[str, object]


def note_gate(study: StoredStudy, gate: Result) -> None:
    """Keep with the study what the gate says, a table and sentences: the report loads no data."""
    table, *sentences = gate.blocks()
    assert isinstance(table, TextTable)
    noted = {
        "table": {"columns": table.columns, "rows": table.rows},
        "sentences": [str(one) for one in sentences],
        "figures": gate.as_dict(),
    }
    study.study.set_user_attr(Attr.GATE, noted)


def gate_of(study: StoredStudy) -> NotedGate | None:
    """What the gate said; ``None`` where nobody asked it."""
    noted = study.study.user_attrs.get(Attr.GATE)
    if noted is None:
        return None
    with sound(study.name, Attr.GATE):
        table = noted["table"]
        return NotedGate(
            table=TextTable(columns=table["columns"], rows=table["rows"]),
            sentences=tuple(noted["sentences"]),
            figures=noted["figures"],
        )
