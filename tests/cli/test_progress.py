from __future__ import annotations

import pytest

from painvrl.cli.progress import run_progress, study_progress
from painvrl.core.observer import GOES_ON
from painvrl.engine.events import Standing, TrialFinished, TrialStarted
from painvrl.engine.outcomes import Completed, SweptPoint


@pytest.mark.parametrize("quiet", [False, True])
def test_a_trial_that_goes_on_has_a_line_unless_quiet_is_asked_for(
    capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    with study_progress(quiet=quiet) as lines:
        lines.trial_started(TrialStarted(number=7, finished=3, requested=9))
        lines.trial_stage(7, f"{GOES_ON}epoch 40 of invariant")
        lines.trial_stage(7, "pretrain")
    captured = capsys.readouterr()
    assert captured.out == ("" if quiet else "trial 7 (4 of 9) continues from epoch 40 of invariant\n")
    assert captured.err == ""


@pytest.mark.parametrize(
    ("points", "on_front", "said"),
    [
        (0, 0, ""),
        (0, 1, "  on the front"),
        (14, 3, "  3 of 14 points on the front"),
        (14, 0, "  0 of 14 points on the front"),
    ],
)
def test_the_line_of_a_trial_says_what_of_it_is_on_the_front(
    capsys: pytest.CaptureFixture[str], points: int, on_front: int, said: str
) -> None:
    metrics = {"iid/ndcg_at_20": 0.25}
    own = [SweptPoint(values={}, metrics={"iid/ndcg_at_20": 0.1})] * bool(points)
    outcome = Completed(
        metrics=metrics, points=(*own, *[SweptPoint(values={}, metrics=metrics)] * (points - 1))
    )
    with study_progress(quiet=False) as lines:
        lines.trial_finished(
            TrialFinished(
                number=7,
                outcome=outcome,
                values=metrics,
                seconds=1.25,
                finished=8,
                requested=9,
                standing=Standing(on_front=on_front, front_size=20),
            )
        )
    shown = "point 7.1: " if points else ""
    assert capsys.readouterr().out == f"[8/9] trial   7    1.2 s  {shown}iid/ndcg_at_20 0.2500{said}\n"


def test_a_run_that_goes_on_says_so_beside_its_results(capsys: pytest.CaptureFixture[str]) -> None:
    with run_progress() as line:
        line.stage(f"{GOES_ON}epoch 40 of invariant")
        line.stage("pretrain")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "continues from epoch 40 of invariant\n")
