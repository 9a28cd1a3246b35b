from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from painvrl.core.errors import ConfigError, Diverged, EmptyEnvironment, StudyError
from painvrl.core.observer import GOES_ON
from painvrl.data.features import FeatureConfig
from painvrl.engine import training as module
from painvrl.engine.job import Job
from painvrl.engine.mask_trace import thinned
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned, completed
from painvrl.engine.training import TrainingObjective
from painvrl.run import prepare as prepare_module
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import apply
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared, prepare


@pytest.fixture
def objective(tiny_config: TrainConfig, tmp_path: Path) -> TrainingObjective:
    return TrainingObjective(tiny_config, cache_dir=tmp_path, device=torch.device("cpu"))


def outcome_of(objective: TrainingObjective, config: TrainConfig, stages: list[str] | None = None) -> Outcome:
    sink: list[str] = [] if stages is None else stages
    return objective(Job(number=3, point={}, config=config), sink.append, lambda *_: None)


def test_a_trial_is_a_run_of_its_configuration_to_the_last_bit(
    objective: TrainingObjective, tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    stages: list[str] = []
    outcome = outcome_of(objective, tiny_config, stages)
    assert isinstance(outcome, Completed)
    assert outcome.metrics == dict(tiny_result.metrics)
    assert outcome.epochs == dict(tiny_result.epochs)
    assert set(outcome.seconds) == set(tiny_result.seconds)
    assert stages[0] == "pretrain"
    assert stages[-1] == "evaluate"
    turned = apply(tiny_config, {"mask.sparsity": 0.2, "fusion.variant_weight": 1.0})
    other = outcome_of(objective, turned)
    assert isinstance(other, Completed)
    assert other.metrics == dict(run(turned, tiny_prepared).metrics) != outcome.metrics


def test_the_peak_of_memory_is_reported_and_measured_anew_for_every_trial(
    objective: TrainingObjective, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = iter([11.0, 22.0])
    resets: list[torch.device] = []
    monkeypatch.setattr(module, "reset_peak_memory", resets.append)
    monkeypatch.setattr(module, "peak_memory_mib", lambda device: next(peaks))
    outcomes = [outcome_of(objective, tiny_config) for _ in range(2)]
    assert [outcome.peak_memory_mib for outcome in outcomes if isinstance(outcome, Completed)] == [11.0, 22.0]
    assert resets == [torch.device("cpu")] * 2


@pytest.mark.parametrize("share", [False, True])
def test_pretrained_backbones_are_kept_in_memory_and_on_disk_only_if_asked(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: bool
) -> None:
    stores: list[object] = []

    def noting(*arguments: object, **named: object) -> object:
        stores.append(named["store"])
        return run(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run", noting)
    device = torch.device("cpu")
    made = TrainingObjective(tiny_config, cache_dir=tmp_path, device=device, share_pretrained=share)
    for sparsity in (0.1, 0.2):
        outcome_of(made, apply(tiny_config, {"mask.sparsity": sparsity}))
    assert len(list((tmp_path / "pretrained").glob("*.pt"))) == int(share)
    assert [store is not None for store in stores] == [share, share]


def judged(
    objective: TrainingObjective, config: TrainConfig, verdicts: Mapping[str, str]
) -> tuple[Outcome, list[tuple[str, Mapping[str, float]]]]:
    """A trial with three rungs, where ``verdicts`` stop it; and what was reported there."""
    reported: list[tuple[str, Mapping[str, float]]] = []

    def on_rung(rung: str, values: Mapping[str, float]) -> str | None:
        reported.append((rung, values))
        return verdicts.get(rung)

    rungs = frozenset({"pretrain/6", "pretrain/9", "invariant/3"})
    job = Job(number=3, point={}, config=config, rungs=rungs)
    return objective(job, lambda stage: None, on_rung), reported


def test_a_trial_is_judged_at_its_rungs_alone_by_what_it_has_there(
    objective: TrainingObjective, tiny_config: TrainConfig
) -> None:
    outcome, reported = judged(objective, tiny_config, {})
    assert isinstance(outcome, Completed)
    assert [rung for rung, _ in reported] == ["pretrain/6", "pretrain/9", "invariant/3"]
    curves = {f"{point.curve}/{point.step}": point.values for point in outcome.curves}
    assert all(values == curves[rung] for rung, values in reported)
    assert outcome.metrics == outcome_of(objective, tiny_config).metrics  # type: ignore[union-attr]


def test_a_hopeless_trial_stops_at_its_rung_and_trains_nothing_further(
    objective: TrainingObjective, tiny_config: TrainConfig
) -> None:
    outcome, reported = judged(objective, tiny_config, {"pretrain/6": "all others were ahead"})
    assert isinstance(outcome, Pruned)
    assert (outcome.rung, outcome.message) == ("pretrain/6", "all others were ahead")
    assert [rung for rung, _ in reported] == ["pretrain/6"]
    assert outcome.metrics == reported[0][1]
    assert [(point.curve, point.step) for point in outcome.curves] == [("pretrain", 3), ("pretrain", 6)]
    assert set(outcome.seconds) == {"pretrain"}
    later, _ = judged(objective, tiny_config, {"invariant/3": "too late"})
    assert isinstance(later, Pruned)
    assert next(iter(later.seconds)) == "pretrain"
    assert list(later.seconds)[-1] == "invariant"


@pytest.mark.parametrize(("ticks", "entered"), [([0.0, 1.0, 1.0, 9.0], ["pretrain"]), ([0.0, 9.0], [])])
def test_a_trial_that_takes_too_long_fails_at_the_next_evaluation_or_stage(
    objective: TrainingObjective,
    tiny_config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    ticks: list[float],
    entered: list[str],
) -> None:
    looks = chain(ticks, repeat(ticks[-1]))
    monkeypatch.setattr(module._Recorder, "_now", lambda self: next(looks))
    stages: list[str] = []
    job = Job(number=3, point={}, config=tiny_config, timeout=5.0)
    outcome = objective(job, stages.append, lambda *_: None)
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.teaches) == ("out_of_time", True)
    assert outcome.message == "it was not finished after 9 s; a trial may take 5 s"
    assert stages == entered


def test_rounds_are_reported_as_numbers(
    objective: TrainingObjective, tiny_config: TrainConfig, tiny_result: RunResult
) -> None:
    outcome = outcome_of(objective, tiny_config)
    assert isinstance(outcome, Completed)
    (report,) = tiny_result.rounds
    assert outcome.rounds == (report.metrics,)
    assert outcome.mask_trace == tuple(thinned([report.trace])) != ()


def test_a_control_assignment_has_no_likelihood_to_report(
    objective: TrainingObjective, tiny_config: TrainConfig, tiny_result: RunResult
) -> None:
    control = apply(tiny_config, {"environments.assignment": "random"})
    outcomes = [outcome_of(objective, config) for config in (tiny_config, control)]
    learned, random = [outcome.rounds[0] for outcome in outcomes if isinstance(outcome, Completed)]
    assert set(learned) - set(random) == {"environments/log_likelihood"}
    assert all(math.isfinite(value) for value in random.values())


def test_hard_em_reports_its_rounds(objective: TrainingObjective, tiny_config: TrainConfig) -> None:
    settings = {"environments.assignment": "hard_em", "environments.hard_em.max_rounds": 1}
    outcome = outcome_of(objective, apply(tiny_config, settings))
    assert isinstance(outcome, Completed)
    (reported,) = outcome.rounds
    assert reported["environments/em_rounds"] == 1.0
    assert reported["environments/em_moved_share"] > 0.01
    assert reported["environments/converged"] == 0.0
    assert "environments/log_likelihood" not in reported


def test_curves_hold_loss_and_metrics_by_epoch(
    objective: TrainingObjective, tiny_config: TrainConfig
) -> None:
    outcome = outcome_of(objective, tiny_config)
    assert isinstance(outcome, Completed)
    steps = [point.step for point in outcome.curves if point.curve == "pretrain"]
    assert steps == [3, 6, 9, 12]
    assert all("loss" in point.values for point in outcome.curves)


def test_the_seed_of_a_trial_is_its_configurations(tiny_config: TrainConfig) -> None:
    seeded = tiny_config.model_copy(update={"seed": 5})
    assert Job(number=0, point={}, config=seeded).seed == 5


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the decoys of features that were built beside those of the first preparation."""
    built: list[str] = []
    real = prepare_module.build_features

    def counting(modalities: object, warm: object, config: FeatureConfig) -> object:
        built.append("".join(config.decoys))
        return real(modalities, warm, config)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare_module, "build_features", counting)
    return built


def test_only_features_are_prepared_anew_and_only_where_they_differ(
    objective: TrainingObjective,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: list[str],
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "prepare", never)
    standardised = apply(tiny_config, {"features.standardise": True})
    one, two = objective._prepare(tiny_config), objective._prepare(standardised)
    assert objective._prepare(standardised) is two
    assert objective._prepare(tiny_config) is one
    assert len(built) == 1
    assert two.dataset is one.dataset
    assert two.split is one.split
    assert two.training is one.training
    assert two.valid_plan is one.valid_plan
    alone = prepare(standardised, cache_dir=tmp_path, device=torch.device("cpu"))
    assert torch.equal(two.features, alone.features)
    assert not torch.equal(two.features, one.features)
    outcome = outcome_of(objective, standardised)
    assert isinstance(outcome, Completed)
    assert outcome.metrics == dict(run(standardised, alone).metrics)


def test_a_few_features_stay_the_most_recently_used(
    objective: TrainingObjective, tiny_config: TrainConfig, built: list[str]
) -> None:
    def prepare_kind(name: str) -> None:
        features = FeatureConfig(decoys={name: 1})
        objective._prepare(tiny_config.model_copy(update={"features": features}))

    for name in "bcd":
        prepare_kind(name)
    objective._prepare(tiny_config)  # used now: b is the oldest
    prepare_kind("e")
    (kinds,) = objective._prepared.values()
    assert len(kinds) == 4
    objective._prepare(tiny_config)
    assert built == list("bcde")
    prepare_kind("b")
    assert built == list("bcdeb")


def test_as_many_splits_stay_as_a_trial_has_seeds(tiny_config: TrainConfig, tmp_path: Path) -> None:
    made = TrainingObjective(tiny_config, cache_dir=tmp_path, device=torch.device("cpu"), seeds=2)
    other, third = (tiny_config.model_copy(update={"seed": seed}) for seed in (5, 6))
    first, second = made._prepare(tiny_config), made._prepare(other)
    assert made._prepare(tiny_config) is first
    assert made._prepare(other) is second
    made._prepare(third)  # that of the first, which was used longest ago, goes
    assert made._prepare(other) is second
    assert made._prepare(tiny_config) is not first


def test_another_split_takes_the_place_of_the_one_before(
    objective: TrainingObjective, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_config.model_copy(update={"seed": 5})
    first, second = objective._prepare(tiny_config), objective._prepare(other)
    assert second.split.fingerprint != first.split.fingerprint
    assert [list(kinds.values()) for kinds in objective._prepared.values()] == [[second]]
    assert objective._prepare(other.model_copy(update={"rounds": 3})) is second

    def refused(*_: object, **__: object) -> None:
        raise ConfigError("leaves a part without a single user to evaluate", key="split")

    with monkeypatch.context() as patch:
        patch.setattr("painvrl.engine.training.prepare", refused)
        with pytest.raises(ConfigError):
            objective._prepare(tiny_config)
    again = objective._prepare(other)  # neither is there any more
    assert again.split.fingerprint == second.split.fingerprint


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (Diverged("the loss is nan at epoch 3"), "diverged", "the loss is nan at epoch 3"),
        (EmptyEnvironment("environment 2 is empty"), "empty_environment", "environment 2 is empty"),
        (
            ConfigError("only planted data knows it", key="mask.source", value="given"),
            "refused",
            "mask.source: only planted data knows it (found 'given')",
        ),
        (MemoryError("no room"), "out_of_memory", "MemoryError: no room"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "out_of_memory",
            "RuntimeError: DefaultCPUAllocator: can't allocate memory",
        ),
        (
            torch.OutOfMemoryError("CUDA out\nof memory"),
            "out_of_memory",
            "OutOfMemoryError: CUDA out of memory",
        ),
        (ZeroDivisionError("division\nby zero"), "unexpected", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_is_a_failed_trial_and_not_the_end(
    objective: TrainingObjective,
    tiny_config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
    message: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, "run", fail)
    outcome = outcome_of(objective, tiny_config)
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.message) == (reason, message)
    expected = reason in {"unexpected", "out_of_memory"}
    assert (outcome.log is not None and "Traceback" in outcome.log) is expected


def test_a_storage_that_refuses_at_a_rung_is_no_failed_trial(
    objective: TrainingObjective, tiny_config: TrainConfig
) -> None:
    def refuses(rung: str, values: Mapping[str, float]) -> str | None:
        raise StudyError("the studies' database refuses: database is locked")

    job = Job(number=3, point={}, config=tiny_config, rungs=frozenset({"pretrain/3"}))
    with pytest.raises(StudyError, match="database is locked"):
        objective(job, lambda stage: None, refuses)


def test_an_interrupt_is_not_a_failed_trial(
    objective: TrainingObjective, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        outcome_of(objective, tiny_config)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_fails_the_trial(
    objective: TrainingObjective, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    metrics = {"iid/ndcg_at_20": 0.5, "ood/ndcg_at_20": value}
    result = SimpleNamespace(metrics=metrics, rounds=(), seconds={}, epochs={})
    monkeypatch.setattr(module, "run", lambda *_, **__: result)
    outcome = outcome_of(objective, tiny_config)
    assert isinstance(outcome, Failed)
    assert outcome.reason == "not_finite"
    assert outcome.message == f"ood/ndcg_at_20 is {value}"


def test_finite_metrics_pass_as_they_are() -> None:
    outcome = Completed(metrics={"iid/ndcg_at_20": 0.0})
    assert completed(outcome) is outcome


def test_the_data_are_summed_up_with_the_statistics_of_their_split(
    objective: TrainingObjective, tiny_config: TrainConfig, tiny_prepared: Prepared, tmp_path: Path
) -> None:
    statistics = tiny_prepared.split.statistics
    assert objective.data.tables == statistics.tables()
    assert objective.data.statistics == statistics.as_dict()
    assert objective.data.warnings == statistics.provenance.warnings

    def fingerprint(**update: object) -> str:
        config = TrainConfig.model_validate({**tiny_config.model_dump(mode="json"), **update})
        return TrainingObjective(config, cache_dir=tmp_path, device=torch.device("cpu")).data.fingerprint

    assert fingerprint() == objective.data.fingerprint
    assert fingerprint(seed=1) != objective.data.fingerprint
    assert fingerprint(split={"protocol": "popularity"}) != objective.data.fingerprint
    assert fingerprint(mask={"sparsity": 0.1}) == objective.data.fingerprint


def test_two_objectives_compute_the_same(tiny_config: TrainConfig, tmp_path: Path) -> None:
    metrics: list[Mapping[str, float]] = []
    for _ in range(2):
        fresh = TrainingObjective(tiny_config, cache_dir=tmp_path, device=torch.device("cpu"))
        outcome = outcome_of(fresh, tiny_config)
        assert isinstance(outcome, Completed)
        metrics.append(outcome.metrics)
    assert metrics[0] == metrics[1]


class Killed(BaseException):
    """Passes as the death of a process would."""


@pytest.fixture
def resumable(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[TrainingObjective, Path]:
    """An objective whose trials are kept at every save point, and where."""
    monkeypatch.setattr("painvrl.run.state.MIN_SECONDS", 0.0)
    monkeypatch.setattr("painvrl.run.state.MOST_SHARE", math.inf)
    folder = tmp_path / "run_states"
    made = TrainingObjective(tiny_config, cache_dir=tmp_path, device=torch.device("cpu"), resume_dir=folder)
    return made, folder


def raising(error: BaseException, at: str) -> tuple[list[str], Callable[[str], None]]:
    """Stages that were entered, and a listener that raises at one of them."""
    stages: list[str] = []

    def on_stage(stage: str) -> None:
        stages.append(stage)
        if stage == at:
            raise error

    return stages, on_stage


@pytest.mark.parametrize("error", [Killed(), KeyboardInterrupt()])
def test_a_trial_that_is_killed_goes_on_under_another_number_to_the_same_result(
    resumable: tuple[TrainingObjective, Path],
    tiny_config: TrainConfig,
    tiny_result: RunResult,
    error: BaseException,
) -> None:
    objective, folder = resumable
    _, on_stage = raising(error, "variant")
    with pytest.raises(type(error)):
        objective(Job(number=3, point={}, config=tiny_config), on_stage, lambda *_: None)
    assert len(list(folder.glob("*.pt"))) == 1
    stages: list[str] = []
    outcome = objective(Job(number=8, point={}, config=tiny_config), stages.append, lambda *_: None)
    assert isinstance(outcome, Completed)
    assert stages[:2] == [f"{GOES_ON}the end of invariant", "pretrain"]
    assert outcome.metrics == dict(tiny_result.metrics)
    assert outcome.epochs == dict(tiny_result.epochs)
    assert [point.curve for point in outcome.curves[:1]] == ["pretrain"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("limit", [None, 100.0])
def test_the_time_before_a_kill_counts(
    resumable: tuple[TrainingObjective, Path],
    tiny_config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    limit: float | None,
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    objective, _ = resumable
    first = tiny_config.training.evaluate_every
    before, after = f"pretrain/{first}", f"variant/{first}"
    job = Job(number=3, point={}, config=tiny_config, timeout=limit, rungs=frozenset({before}))

    def slow(rung: str, _: object) -> str | None:
        now[0] += {before: 60.0, after: 50.0}[rung]
        return "behind" if rung == after and limit is None else None

    with pytest.raises(Killed):
        objective(job, raising(Killed(), "variant")[1], slow)
    outcome = objective(replace(job, rungs=frozenset({after})), lambda _: None, slow)
    if limit is not None:
        assert isinstance(outcome, Failed)
        assert (outcome.reason, "not finished after 110 s" in outcome.message) == ("out_of_time", True)
    else:
        assert isinstance(outcome, Pruned)
        assert {name: spent for name, spent in outcome.seconds.items() if spent} == {
            "pretrain": 60.0,
            "variant": 50.0,
        }
        assert not [name for name in outcome.seconds if name.startswith(GOES_ON)]


def test_another_configuration_does_not_go_on_with_it(
    resumable: tuple[TrainingObjective, Path], tiny_config: TrainConfig
) -> None:
    objective, _ = resumable
    _, on_stage = raising(Killed(), "variant")
    with pytest.raises(Killed):
        objective(Job(number=3, point={}, config=tiny_config), on_stage, lambda *_: None)
    stages: list[str] = []
    outcome_of(objective, apply(tiny_config, {"fusion.variant_weight": 0.9}), stages)
    assert stages[0] == "pretrain"


@pytest.mark.parametrize("error", [Diverged("it did"), RuntimeError("a bug"), MemoryError()])
def test_a_trial_that_ends_leaves_nothing_to_go_on_with(
    resumable: tuple[TrainingObjective, Path], tiny_config: TrainConfig, error: Exception
) -> None:
    objective, folder = resumable
    stages, on_stage = raising(error, "variant")
    outcome = objective(Job(number=3, point={}, config=tiny_config), on_stage, lambda *_: None)
    assert isinstance(outcome, Failed)
    assert stages[-1] == "variant"
    assert list(folder.iterdir()) == []
    again: list[str] = []
    outcome_of(objective, tiny_config, again)
    assert again[0] == "pretrain"
