from __future__ import annotations

import copy
import gc
import math
import pickle
import tracemalloc
from dataclasses import replace

import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned, SweptPoint
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.asktell import AskTell
from painvrl.study.store.creation import create_study
from painvrl.study.store.packed import Numbers, packed, unpacked
from painvrl.study.store.records import complete
from painvrl.study.store.storage import OUTCOME, open_study

METRICS = {f"{part}/metric_at_{k}": k / 100 for part in ("iid", "ood") for k in range(20)}
POINTS = tuple(
    SweptPoint(values={"fusion.popularity_weight": weight / 100}, metrics=METRICS, first=METRICS)
    for weight in range(20)
)
TRACE = tuple({"round": 1.0, "step": float(step), "risk": 0.5} for step in range(20))
OUTCOMES: tuple[Outcome, ...] = (
    Completed(metrics=METRICS),
    Completed(metrics=METRICS, first=METRICS, points=POINTS, rounds=(METRICS,), mask_trace=TRACE),
    Completed(metrics=METRICS, rounds=({"mask/cosine": math.nan},)),
    Pruned(rung="pretrain/2", message="others were better", metrics=METRICS),
    Failed(reason="diverged", message="the loss is not finite"),
)


def test_packed_numbers_are_the_mapping_they_were_made_of() -> None:
    numbers = Numbers(METRICS)
    assert numbers == METRICS
    assert numbers == Numbers(dict(reversed(METRICS.items())))
    assert list(numbers.items()) == list(METRICS.items())
    assert numbers != {**METRICS, "iid/metric_at_0": 1.0}
    assert repr(numbers) == repr(METRICS)
    assert "none" not in numbers
    with pytest.raises(KeyError, match="none"):
        numbers["none"]


def test_numbers_of_other_names_do_not_share_places() -> None:
    assert dict(Numbers({"a": 1.0, "b": 2.0})) == {"a": 1.0, "b": 2.0}
    assert dict(Numbers({"b": 3.0, "a": 4.0})) == {"b": 3.0, "a": 4.0}
    assert dict(Numbers({})) == {}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_packed_outcome_is_equal_and_is_written_as_before(outcome: Outcome) -> None:
    small = packed(outcome)
    assert small == packed(small) == packed(outcome) == pickle.loads(pickle.dumps(small))
    assert copy.deepcopy(small) == small
    assert OUTCOME.dump_json(unpacked(small)) == OUTCOME.dump_json(outcome)


def test_a_process_keeps_little_of_each_point_of_an_ended_trial(
    spec: StudySpec, workspace: Workspace
) -> None:
    names = dict.fromkeys(spec.objectives, 0.5) | METRICS
    points = tuple(replace(point, metrics=names, first={}) for point in POINTS)
    stored, _ = create_study(spec, workspace, data="d")
    asktell = AskTell(stored, spec.study)
    held = []
    for trials in (5, 20):
        while asktell.finished() < trials:
            asked = asktell.ask()
            assert asked is not None
            asktell.tell(asked.number, Completed(metrics=names, points=points))
        fresh = open_study("toy", workspace)
        open_study("toy", workspace).trials()  # what is made once for all
        gc.collect()
        tracemalloc.start()
        records = fresh.trials()
        trained = fresh.trained(records)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(trained) == trials
        assert len(complete(records)) == trials * len(points)
    bytes_a_point = (held[1] - held[0]) / (15 * len(points))
    assert bytes_a_point < 2200  # 5,300 as dictionaries and as Optuna reads them
