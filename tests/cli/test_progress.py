from __future__ import annotations

import pytest

from painvrl.cli.progress import run_progress, study_progress
from painvrl.progress import GOES_ON
from painvrl.study.progress import TrialStarted


@pytest.mark.parametrize("quiet", [False, True])
def test_a_trial_that_goes_on_has_a_line_unless_quiet_is_asked_for(
    capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    with study_progress(quiet=quiet) as lines:
        lines.trial_started(TrialStarted(number=7, point={}, finished=3, wanted=9))
        lines.trial_stage(7, f"{GOES_ON}epoch 40 of invariant")
        lines.trial_stage(7, "pretrain")
    captured = capsys.readouterr()
    assert captured.out == ("" if quiet else "trial 7 (4 of 9) goes on from epoch 40 of invariant\n")
    assert captured.err == ""


def test_a_run_that_goes_on_says_so_beside_its_results(capsys: pytest.CaptureFixture[str]) -> None:
    with run_progress() as line:
        line.stage(f"{GOES_ON}epoch 40 of invariant")
        line.stage("pretrain")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "goes on from epoch 40 of invariant\n")
