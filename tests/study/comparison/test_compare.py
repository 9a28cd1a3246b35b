from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from painvrl.core.errors import ConfigError, NothingFeasible, StudyError
from painvrl.engine.outcomes import Completed, Failed
from painvrl.engine.user_value_store import UserStore
from painvrl.evaluation.user_values import UserValues
from painvrl.run.config import TrainConfig
from painvrl.stats.dominance import hypervolume, non_dominated
from painvrl.study.comparison.compare import ComparedStudy, compare
from painvrl.study.file.space import Space
from painvrl.study.store.records import TakenFrom, TrialRecord, TrialState
from painvrl.study.store.storage import StudyIdentity

OBJECTIVES = ("iid/ndcg_at_20", "ood/ndcg_at_20")
DATA = "planted-split1"

# Trade-offs between 1 and 0; the third and the last are dominated.
CURVE = [(0.9, 0.2), (0.7, 0.6), (0.6, 0.5), (0.4, 0.8), (0.2, 0.9), (0.1, 0.1)]


@dataclass(frozen=True)
class Stored:
    """What a comparison reads of a stored study, without a storage."""

    name: str
    identity: StudyIdentity
    records: tuple[TrialRecord, ...]

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.identity.objectives

    def trials(self) -> tuple[TrialRecord, ...]:
        return self.records


@dataclass(frozen=True)
class Growing(Stored):
    """Still running: at every read another trial has landed, which dominates all before."""

    reads: list[int] = field(default_factory=list)

    def trials(self) -> tuple[TrialRecord, ...]:
        self.reads.append(len(self.reads))
        landed = []
        for number in range(len(self.records), len(self.records) + self.reads[-1]):
            result = dict.fromkeys(self.objectives, 1.0 + number)
            landed.append(record_of(number, result, self.objectives))
        return (*self.records, *landed)


@pytest.fixture
def planned(tmp_path: Path, tiny_config: TrainConfig) -> Callable[..., ComparedStudy]:
    """Makes a study with these results; where ``users`` are given, every trial keeps as many."""

    def make(
        name: str,
        results: list[Any],
        *,
        data: str = DATA,
        users: int = 0,
        objectives: tuple[str, ...] = OBJECTIVES,
        changes: Mapping[str, object] | None = None,
        first_point: float = 0.0,
        violated: Collection[int] = (),
    ) -> ComparedStudy:
        store = UserStore(tmp_path / "users" / name)
        rng = np.random.default_rng(users)
        records = []
        for number, result in enumerate(results):
            metrics = result if isinstance(result, Failed) else dict(zip(OBJECTIVES, result, strict=True))
            record = record_of(number, metrics, objectives)
            records.append(
                replace(
                    record,
                    point={"mask.sparsity": first_point + number / 100},
                    violated=("too slow",) if number in violated else (),
                )
            )
            if users and not isinstance(result, Failed):
                store.store(number, user_values(result, users, rng))
        identity = StudyIdentity(
            objectives=objectives,
            config=tiny_config.model_copy(update=dict(changes or {})),
            space=Space.model_validate({"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.9}}),
            data=data,
        )
        study = Stored(name=name, identity=identity, records=tuple(records))
        return ComparedStudy(study=study, users=store, where="here")  # type: ignore[arg-type]

    return make


def record_of(number: int, result: Mapping[str, float] | Failed, objectives: tuple[str, ...]) -> TrialRecord:
    failed = isinstance(result, Failed)
    return TrialRecord(
        number=number,
        state=TrialState.FAILED if failed else TrialState.COMPLETE,
        point={},
        values=None if isinstance(result, Failed) else tuple(result[name] for name in objectives),
        outcome=result if isinstance(result, Failed) else Completed(metrics=result),
        run_id=f"run-{number}",
        seconds=1.0,
        deaths=0,
    )


def user_values(result: tuple[float, float], users: int, rng: np.random.Generator) -> UserValues:
    values = {}
    for name, mean in zip(OBJECTIVES, result, strict=True):
        noise = rng.standard_normal(users) * 0.5 * mean
        values[name] = (mean + noise - noise.mean()).astype(np.float32)
    return UserValues(users={"iid": np.arange(users), "ood": np.arange(users)}, values=values)


def scaled(share: float) -> list[tuple[float, float]]:
    return [(iid * share, ood * share) for iid, ood in CURVE]


Make = Callable[..., ComparedStudy]


def test_a_study_compared_with_itself_has_no_difference(planned: Make) -> None:
    one = planned("one", CURVE, users=40)
    found = compare(one, one)
    assert (found.absolute.value, found.absolute.low, found.absolute.high) == (0, 0, 0)
    assert found.relative is not None
    assert (found.relative.value, found.relative.low, found.relative.high) == (0, 0, 0)
    assert (found.coverage_by_a, found.coverage_by_b) == (1, 1)
    assert (found.epsilon_of_a, found.epsilon_of_b) == (0, 0)
    assert (found.users, found.same_points, found.trials) == ("paired", 6, 6)
    assert found.differences == ()
    assert found.regressed is False


def test_the_two_sides_by_hand(planned: Make) -> None:
    a, b = planned("one", CURVE), planned("two", scaled(0.5))
    found = compare(a, b)
    assert [point.trial for point in found.a.front] == [0, 1, 3, 4]
    assert [(end.objective, end.trial, end.value) for end in found.a.ends] == [
        ("iid/ndcg_at_20", 0, 0.9),
        ("ood/ndcg_at_20", 4, 0.9),
    ]
    assert found.a.knee.trial == 1
    assert (found.a.finished, found.a.complete) == (6, 6)
    front = np.array(CURVE)[non_dominated(CURVE)]
    assert found.a.hypervolume == pytest.approx(hypervolume(front))
    assert found.b.hypervolume == pytest.approx(found.a.hypervolume / 4)
    assert found.absolute.value == pytest.approx(-0.75 * found.a.hypervolume)
    assert found.relative is not None
    assert found.relative.value == pytest.approx(-0.75)
    assert (found.coverage_by_a, found.coverage_by_b) == (1.0, 0.0)
    assert found.epsilon_of_a == pytest.approx(-0.2)  # what (0.4, 0.8) has to spare for (0.2, 0.4)
    assert found.epsilon_of_b == pytest.approx(0.45)


def test_a_trial_that_lands_meanwhile_is_in_all_of_the_comparison_or_in_none(planned: Make) -> None:
    a = planned("one", CURVE)
    growing = Growing(name="two", identity=a.study.identity, records=a.study.trials())
    found = compare(a, replace(a, study=growing))  # type: ignore[arg-type]
    assert found.b.knee.trial == found.a.knee.trial == 1
    assert found.b.front == found.a.front
    assert len(growing.reads) == 1


def test_a_front_that_is_much_worse_regressed_and_the_other_way_round_it_did_not(planned: Make) -> None:
    a, b = planned("one", CURVE, users=40), planned("two", scaled(0.5), users=40)
    assert compare(a, b).regressed
    assert not compare(b, a).regressed


def test_the_margin_is_what_the_whole_interval_must_lie_below(planned: Make) -> None:
    a, b = planned("one", CURVE, users=40), planned("two", scaled(0.9), users=40)
    found = compare(a, b)
    assert found.relative is not None
    assert found.relative.low is not None
    assert found.relative.high is not None
    assert found.relative.value == pytest.approx(-0.19)
    assert found.relative.low < -0.19 < found.relative.high < 0
    assert found.regressed
    assert compare(a, b, margin=-found.relative.high - 1e-6).regressed
    assert not compare(a, b, margin=-found.relative.high + 1e-6).regressed
    assert not compare(a, b, margin=0.19).regressed  # the value lies there, the interval does not


def test_the_smaller_study_says_how_many_trials_are_compared(planned: Make) -> None:
    a, b = planned("one", [*CURVE, (0.95, 0.95)]), planned("two", CURVE)
    found = compare(a, b)
    assert found.trials == 6
    assert (found.absolute.value, found.regressed) == (0, False)
    assert found.a.hypervolume == pytest.approx(0.95**2)  # the table shows the whole study
    assert any("'one'" in note and "7 finished trials" in note and "first 6" in note for note in found.notes)


def test_a_study_is_not_compared_with_the_trials_that_it_took_over(planned: Make) -> None:
    """Their front would be the other study's own, and nothing could be worse than it."""
    bad = [(x / 2, y / 2) for x, y in CURVE]
    a, b = planned("one", CURVE), planned("two", [*CURVE, *bad])
    count = len(CURVE)
    taken = [
        replace(one, taken_from=TakenFrom(study="one", trial=one.number)) for one in b.study.records[:count]
    ]
    warm = replace(b, study=replace(b.study, records=(*taken, *b.study.records[count:])))
    found, alone = compare(a, warm), compare(a, planned("three", bad))
    assert found.trials == count
    assert found.absolute.value == alone.absolute.value < 0
    assert found.b.hypervolume == found.a.hypervolume  # the table shows the whole study
    assert any(
        note.startswith(f"{count} trials of 'two' (") and "leaves them out" in note for note in found.notes
    )
    only = replace(b, study=replace(b.study, records=tuple(taken)))
    with pytest.raises(StudyError, match="has no trial of its own"):
        compare(a, only)


def test_failed_trials_were_paid_for_too(planned: Make) -> None:
    failed = Failed(reason="diverged", message="too fast")
    a, b = planned("one", CURVE), planned("two", [failed, failed, *CURVE[:4]])
    found = compare(a, b)
    assert (found.trials, found.b.complete) == (6, 4)
    assert found.absolute.value == pytest.approx(hypervolume(CURVE[:4]) - hypervolume(CURVE))
    # Three trials of B are left: the first three of A are compared with one complete one.
    short = compare(a, planned("three", [failed, failed, CURVE[0]]))
    assert short.absolute.value == pytest.approx(hypervolume(CURVE[:1]) - hypervolume(CURVE[:3]))


def test_the_objectives_must_be_the_same_but_their_order_need_not(planned: Make) -> None:
    a = planned("one", CURVE, users=40)
    turned = planned("two", CURVE, users=40, objectives=OBJECTIVES[::-1])
    found = compare(a, turned)
    assert found.absolute.value == pytest.approx(0)
    assert found.epsilon_of_a == 0
    assert found.differences == ()
    # A trial's values are (iid, ood) of A and (ood, iid) of B: drawn users must not mix them up.
    assert found.absolute.high == pytest.approx(compare(a, a).absolute.high, abs=1e-12)
    alone = planned("three", CURVE, objectives=OBJECTIVES[:1])
    with pytest.raises(StudyError, match="three: the fronts do not compare: 'one' has the objectives"):
        compare(a, alone)


def test_users_are_drawn_together_only_where_the_split_is_the_same(planned: Make) -> None:
    a = planned("one", CURVE, users=40)
    same = compare(a, planned("two", CURVE, users=40))
    assert same.users == "paired"
    other_features = compare(a, planned("three", CURVE, users=40, data="other-split1"))
    assert other_features.users == "paired"
    assert any(note.startswith("the data are not the same") for note in other_features.notes)
    other_split = compare(a, planned("four", CURVE, users=40, data="planted-split2"))
    assert other_split.users == "independent"
    assert any(note.startswith("the data or the split are not the same") for note in other_split.notes)
    assert any("split" in phrase for phrase in other_split.differences)
    assert other_split.absolute.high > same.absolute.high  # type: ignore[operator]
    other_users = compare(a, planned("five", CURVE, users=30))
    assert other_users.users == "independent"


def test_without_the_users_of_every_trial_the_interval_is_one_over_trials_and_says_so(
    planned: Make,
) -> None:
    # Equal results at equal points: all that these studies could differ by is their users.
    a, b = planned("one", CURVE, users=40), planned("two", CURVE, users=40, data="planted-split2")
    assert compare(a, b).absolute.high > 0  # type: ignore[operator]
    (b.users.folder / "3.npz").unlink()
    found = compare(a, b)
    assert found.users == "unknown"
    assert any("1 of the 6 trials of 'two'" in note for note in found.notes)
    assert found.absolute.high == 0
    assert compare(a, planned("three", CURVE)).users == "unknown"


def test_the_same_comparison_comes_out_twice(planned: Make) -> None:
    a, b = planned("one", CURVE, users=40), planned("two", scaled(0.9), users=40)
    assert compare(a, b) == compare(a, b)


def test_what_differs_is_named_from_a_to_b(planned: Make) -> None:
    a, b = planned("one", CURVE), planned("two", CURVE, changes={"rounds": 2, "seed": 5})
    assert compare(a, b).differences == ("config.rounds was 1 and is 2", "config.seed was 0 and is 5")


def test_trials_at_the_same_point_are_pairs_wherever_they_stand(planned: Make) -> None:
    a = planned("one", CURVE)
    assert compare(a, planned("two", CURVE)).same_points == 6
    shifted = compare(a, planned("three", CURVE, first_point=0.02))
    assert shifted.same_points == 4
    apart = compare(a, planned("four", CURVE, first_point=0.5))
    assert apart.same_points == 0
    assert apart.absolute.high > 0  # type: ignore[operator]
    # Nothing but the pairs carries these two fronts, and a pair has equal results: what either loses cancels.
    moved = compare(planned("five", [CURVE[5], *CURVE]), planned("six", CURVE, first_point=0.01))
    assert moved.same_points == 5
    assert moved.absolute.high == pytest.approx(0, abs=1e-12)


def test_a_trial_that_breaks_a_constraint_is_on_no_front_and_in_no_volume(planned: Make) -> None:
    a = planned("one", CURVE, users=40)
    b = planned("two", [(0.99, 0.99), *CURVE[1:]], users=40, violated=[0])
    (b.users.folder / "0.npz").unlink()  # no one needs it
    found = compare(a, b)
    assert [point.trial for point in found.b.front] == [1, 3, 4]
    assert found.absolute.value == pytest.approx(hypervolume(CURVE[1:]) - hypervolume(CURVE))
    assert (found.trials, found.users) == (6, "paired")


def test_a_study_without_a_result_is_nothing_feasible(planned: Make) -> None:
    a, b = planned("one", CURVE), planned("two", CURVE[:1], violated=[0])
    for one, other in ((a, b), (b, a)):
        with pytest.raises(NothingFeasible, match=r"'two' \(here\) has no feasible trial"):
            compare(one, other)


def test_one_trial_each_never_counts_as_regressed_and_says_so(planned: Make) -> None:
    found = compare(planned("one", [(0.9, 0.9)]), planned("two", [(0.1, 0.1)]))
    assert found.relative is not None
    assert (found.relative.low, found.regressed) == (None, False)
    assert any("too few trials" in note for note in found.notes)


def test_a_front_without_volume_has_none_to_lose(planned: Make) -> None:
    found = compare(planned("one", [(0.9, 0.0), (0.8, 0.0)]), planned("two", CURVE))
    assert (found.relative, found.regressed) == (None, False)
    assert any("no hypervolume to lose" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("margin", -0.1),
        ("margin", 1.0),
        ("level", 0.4),
        ("level", 1.0),
        ("draws", 1),
        ("level", float("nan")),
    ],
)
def test_numbers_out_of_range_are_refused(planned: Make, name: str, value: float) -> None:
    one = planned("one", CURVE)
    with pytest.raises(ConfigError, match=name):
        compare(one, one, **{name: value})


def test_the_rule_is_stated_with_its_numbers(planned: Make) -> None:
    one = planned("one", CURVE)
    assert "95% interval" in compare(one, one).rule
    assert compare(one, one).rule.endswith("below 0.0%")
    assert compare(one, one, margin=0.02, level=0.9).rule.endswith(
        "90% interval of the relative difference lies below -2.0%"
    )


def test_a_comparison_is_ready_for_json(planned: Make, tmp_path: Path) -> None:
    import json

    found = compare(planned("one", CURVE, users=40), planned("two", CURVE))
    reported = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    values = {"iid/ndcg_at_20": 0.9, "ood/ndcg_at_20": 0.2}
    assert reported["a"]["front"][0] == {"trial": 0, "name": "0", "values": values}
    assert reported["regressed"] is False


def swept(one: ComparedStudy, curves: list[list[tuple[float, float]]], users: int = 40) -> ComparedStudy:
    """The study, its trials scored at these points: the first is the one that they were reported by."""
    rng = np.random.default_rng(users)
    records = []
    for record, curve in zip(one.study.trials(), curves, strict=True):
        made = []
        for place, result in enumerate(curve):
            outcome = Completed(metrics=dict(zip(OBJECTIVES, result, strict=True)))
            point = {**record.point, "fusion.cold_weight": place / 10}
            made.append(replace(record, place=place, point=point, values=result, outcome=outcome))
        one.users.store(record.number, [user_values(result, users, rng) for result in curve])
        records.append(replace(record, points=tuple(made)))
    return replace(one, study=replace(one.study, records=tuple(records)))  # type: ignore[type-var]


CURVES = [[(0.9, 0.2), (0.8, 0.4)], [(0.7, 0.6), (0.75, 0.5), (0.5, 0.7)], [(0.4, 0.8)], [(0.2, 0.9)] * 2]


def test_trials_of_one_point_each_compare_as_trials_without_points(planned: Make) -> None:
    plain = compare(planned("a", CURVE, users=40), planned("b", scaled(0.9), users=40))
    single = compare(
        swept(planned("c", CURVE), [[result] for result in CURVE]),
        swept(planned("d", scaled(0.9)), [[result] for result in scaled(0.9)]),
    )
    assert (single.absolute, single.relative) == (plain.absolute, plain.relative)
    assert (single.users, single.trials, single.same_points) == ("paired", 6, 6)
    assert [point.name for point in plain.a.front] == ["0", "1", "3", "4"]
    assert [point.name for point in single.a.front] == ["0.0", "1.0", "3.0", "4.0"]


def test_fronts_are_of_points_and_what_is_counted_are_trials(planned: Make) -> None:
    a = swept(planned("one", [curve[0] for curve in CURVES]), CURVES)
    b = planned("two", [curve[0] for curve in CURVES], users=40)
    found = compare(a, b)
    everything = [point for curve in CURVES for point in curve]
    assert (found.a.finished, found.a.complete, found.trials, found.same_points) == (4, 4, 4, 4)
    assert found.a.hypervolume == pytest.approx(hypervolume(everything))
    assert len(found.a.front) == int(non_dominated(everything).sum())
    assert [point.name for point in found.a.front][:3] == ["0.0", "0.1", "1.1"]
    assert found.a.ends[1].name == "3.0"
    assert found.users == "paired"
    assert found.absolute.value == pytest.approx(
        hypervolume([curve[0] for curve in CURVES]) - hypervolume(everything)
    )


def test_the_first_trials_are_compared_with_all_their_points(planned: Make) -> None:
    a = swept(planned("one", [curve[0] for curve in CURVES]), CURVES)
    b = planned("two", [(0.9, 0.2), (0.7, 0.6)], users=40)
    found = compare(a, b)
    assert found.trials == 2
    first = hypervolume([*CURVES[0], *CURVES[1]])
    assert found.absolute.value == pytest.approx(hypervolume([(0.9, 0.2), (0.7, 0.6)]) - first)


def test_what_users_got_is_asked_for_by_the_names_of_points(planned: Make) -> None:
    a = swept(planned("one", [curve[0] for curve in CURVES]), CURVES)
    assert compare(a, a).users == "paired"
    rng = np.random.default_rng(0)
    kept = [user_values(result, 40, rng) for result in CURVES[1]]
    a.users.store(1, [kept[0], kept[2], kept[1]])  # those of two points are not theirs
    found = compare(a, a)
    assert found.users == "unknown"
    assert any("2 of the 8 points of 'one'" in note for note in found.notes)
    (a.users.folder / "1.npz").unlink()
    assert any("3 of the 8 points of 'one'" in note for note in compare(a, a).notes)


def test_a_point_that_breaks_a_constraint_is_in_no_volume_and_the_others_of_its_training_are(
    planned: Make,
) -> None:
    a = swept(planned("one", [curve[0] for curve in CURVES]), CURVES)
    first, *rest = a.study.trials()
    broken = replace(first, points=(replace(first.points[0], violated=("too slow",)), first.points[1]))
    b = replace(a, study=replace(a.study, records=(broken, *rest)))  # type: ignore[type-var]
    found = compare(a, b)
    less = [point for curve in CURVES for point in curve if point != CURVES[0][0]]
    assert found.b.hypervolume == pytest.approx(hypervolume(less))
    assert found.absolute.value == pytest.approx(found.b.hypervolume - found.a.hypervolume)
    assert "0.0" not in [point.name for point in found.b.front]
