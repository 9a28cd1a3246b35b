"""Studies that a benchmark has run, in a JSON file: none runs twice, and none of another spec is reported."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from painvrl.data.digest import digest_of
from painvrl.study.file.spec import StudySpec

SpecOf = Callable[[str, int], StudySpec]
"""The study of an arm under a seed."""


def digest(spec: StudySpec) -> str:
    """Of all that a study's file says."""
    return digest_of(spec.model_dump(mode="json"))


def completed(
    path: Path,
    arm: str,
    wanted: Sequence[tuple[str, int]],
    *,
    spec_of: SpecOf,
    run: Callable[[str, int], dict[str, Any]],
    jobs: int,
) -> dict[str, Any]:
    """The studies of the file and those of ``wanted`` that are not there, each written as soon as it is run.

    Args:
        path: the file.
        arm: what a kept study calls its arm.
        wanted: arms and seeds.
        spec_of: what they are.
        run: runs one, in a process of its own; tells its arm, its ``seed`` and the digest of its ``spec``.
        jobs: so many at a time.
    """
    kept = studies_kept(path, arm, spec_of)
    there = {(one[arm], one["seed"]) for one in kept["studies"]}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for future in as_completed([pool.submit(run, *one) for one in wanted if one not in there]):
            kept["studies"].append(future.result())
            keep_studies(path, kept)
    return kept


def studies_kept(path: Path, arm: str, spec_of: SpecOf) -> dict[str, Any]:
    """Those of the file that ``spec_of`` still describes so; none if there is no file."""
    if not path.exists():
        return {"studies": []}
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kept["studies"] = [
        one for one in kept["studies"] if one.get("spec") == digest(spec_of(one[arm], one["seed"]))
    ]
    return kept


def keep_studies(path: Path, kept: Mapping[str, Any]) -> None:
    """Write them all, or nothing."""
    waiting = path.with_suffix(".tmp")
    waiting.write_text(json.dumps(kept), encoding="utf-8")
    waiting.replace(path)
