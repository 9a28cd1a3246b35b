"""Studies that a benchmark has run, in a JSON file: none runs twice, and none of another spec is reported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from painvrl.data.digest import digest_of
from painvrl.study.file.spec import StudySpec


def digest(spec: StudySpec) -> str:
    """Of all that a study's file says."""
    return digest_of(spec.model_dump(mode="json"))


def studies_kept(path: Path, spec_of: Callable[[Mapping[str, Any]], StudySpec]) -> dict[str, Any]:
    """Those of the file that ``spec_of`` still describes so; none if there is no file."""
    if not path.exists():
        return {"studies": []}
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kept["studies"] = [one for one in kept["studies"] if one.get("spec") == digest(spec_of(one))]
    return kept


def keep_studies(path: Path, kept: Mapping[str, Any]) -> None:
    """Write them all, or nothing."""
    waiting = path.with_suffix(".tmp")
    waiting.write_text(json.dumps(kept), encoding="utf-8")
    waiting.replace(path)
