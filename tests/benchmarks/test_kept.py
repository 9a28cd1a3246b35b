from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def test_studies_of_another_file_are_not_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    from functools import partial

    from benchmarks import fronts
    from benchmarks.kept import digest, keep_studies, studies_kept

    spec_of, path = partial(fronts.spec_of, 40), tmp_path / "fronts.json"
    assert studies_kept(path, "preset", spec_of) == {"studies": []}
    now = {"preset": "erm", "seed": 0, "spec": digest(spec_of("erm", 0))}
    old = {"preset": "erm", "seed": 1, "spec": digest(spec_of("erm", 0))}
    keep_studies(path, {"studies": [now, old, {"preset": "erm", "seed": 0}]})
    assert studies_kept(path, "preset", spec_of) == {"studies": [now]}
