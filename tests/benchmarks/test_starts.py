"""Commands that start one study at once, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.starts import start_together


@pytest.mark.slow
def test_of_starts_at_once_on_a_file_one_runs_the_study_and_the_others_say_so(tmp_path: Path) -> None:
    started = start_together(3, 4, tmp_path)
    assert started.wrong == ()
    assert started.ended >= 1  # who starts late finds it finished
    assert started.ended + started.refused == 3


@pytest.mark.slow
def test_starts_at_once_on_a_server_share_one_study(database: str, tmp_path: Path) -> None:
    started = start_together(3, 6, tmp_path, database)
    assert started.wrong == ()
    assert (started.ended, started.refused) == (3, 0)
