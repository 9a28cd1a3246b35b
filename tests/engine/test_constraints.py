from __future__ import annotations

from typing import Any

import pytest

from painvrl.core.errors import ConfigError
from painvrl.core.yamlfile import validated
from painvrl.engine.constraints import Constraint, excess, violated

TIME = Constraint(metric="time", max=60)
MEMORY = Constraint(metric="peak_memory", max=1024)
RECALL = Constraint(metric="iid/recall_at_20", min=0.25)


def test_the_excess_is_how_far_a_trial_lies_beyond_each_bound() -> None:
    over = excess([TIME, MEMORY, RECALL], {"iid/recall_at_20": 0.2, "time": 75.0, "peak_memory": 1000.0})
    assert over == pytest.approx({"time/max": 15, "peak_memory/max": -24, "iid/recall_at_20/min": 0.05})


def test_the_bound_itself_is_good() -> None:
    assert set(excess([TIME, RECALL], {"iid/recall_at_20": 0.25, "time": 60.0}).values()) == {0.0}
    assert violated([TIME, RECALL], {"iid/recall_at_20": 0.25, "time": 60.0}) == ()


def test_what_was_not_measured_breaks_nothing() -> None:
    assert excess([TIME, MEMORY, RECALL], {}) == {}
    assert violated([MEMORY], {"time": 1.0}) == ()


def test_what_is_broken_is_said_with_its_unit() -> None:
    assert violated(
        [TIME, MEMORY, RECALL], {"iid/recall_at_20": 0.2, "time": 75.5, "peak_memory": 2048.0}
    ) == (
        "time 75.5 s is above max 60 s",
        "peak_memory 2048 MiB is above max 1024 MiB",
        "iid/recall_at_20 0.2 is below min 0.25",
    )


def test_the_name_does_not_move_with_the_bound() -> None:
    assert TIME.name == Constraint(metric="time", max=90).name == "time/max"


def test_zero_is_a_bound() -> None:
    assert Constraint(metric="time", max=0).excess(1.0) == 1.0
    assert Constraint(metric="iid/recall_at_20", min=0).excess(1.0) == -1.0


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ({"metric": "time"}, "needs one of max and min (found none)"),
        ({"metric": "time", "max": 1, "min": 0}, "needs one of max and min (found max 1.0 and min 0.0)"),
        ({"metric": "speed", "max": 1}, "metric: must be time or peak_memory or a metric"),
        ({"metric": "iid_test/recall_at_20", "min": 1}, "metric: is sealed"),
        ({"metric": "time", "maxx": 1}, "did you mean max"),
    ],
)
def test_a_constraint_that_makes_no_sense_is_refused(constraint: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validated(Constraint, constraint)
    assert said in str(caught.value)
