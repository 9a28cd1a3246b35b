"""One trial: a configuration is trained, and its valid metrics or its failure come back.

This module knows no Optuna and no MLflow.
"""

from __future__ import annotations

import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch

from painvrl.core.device import is_out_of_memory, peak_memory_mib, reset_peak_memory
from painvrl.core.errors import (
    OutOfTime,
    PainvrlError,
    PlaceError,
    StudyError,
    TrialFailure,
    UserError,
    is_of_the_place,
)
from painvrl.core.observer import GOES_ON, KEPT
from painvrl.data.dataset import BATCH
from painvrl.data.digest import digest_for_all_seeds
from painvrl.data.parts import LOEO
from painvrl.engine.job import DataSummary, Job, OnRung
from painvrl.engine.mask_trace import thinned
from painvrl.engine.outcomes import Completed, CurvePoint, Failed, Outcome, Pruned, completed
from painvrl.engine.seeds import mean_metrics, mean_points
from painvrl.engine.sweep import RungSweep, Scored, reported, scored_at, sweep, without_curve
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import FIXED_SECTIONS
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared, prepare, with_features
from painvrl.run.pretrained import PretrainedStore, numbers_of
from painvrl.run.state import run_key, run_state

_PREPARED = 4
"""Kinds of features that stay on the device at most, of each split."""


@dataclass(frozen=True, kw_only=True)
class UnderSeed:
    """A job's training under one seed.

    Attributes:
        sweep_seconds: that scoring its points took, if it has any.
        mixed: see :attr:`painvrl.run.state.RunState.mixed`.
    """

    prepared: Prepared
    result: RunResult
    scored: tuple[Scored, ...] = ()
    sweep_seconds: float | None = None
    mixed: tuple[str, ...] = ()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by stage."""
        swept = {} if self.sweep_seconds is None else {"sweep": self.sweep_seconds}
        return {**self.result.seconds, **swept}


@dataclass(frozen=True, kw_only=True)
class TrainedJob:
    """A completed job where it was trained.

    Attributes:
        under: what was trained under each of its seeds.
        outcome: of all of them.
    """

    job: Job
    under: tuple[UnderSeed, ...]
    outcome: Completed


def summary_of(prepared: Prepared) -> DataSummary:
    """What jobs on these data are computed on."""
    split = prepared.split
    return DataSummary(
        fingerprint="-".join(prepared.fingerprints),
        tables=split.statistics.tables(),
        statistics=split.statistics.as_dict(),
        warnings=split.statistics.provenance.warnings,
        parts=(*prepared.valid_plan.names, *((LOEO,) if prepared.evaluation.loeo else ())),
        all_seeds=digest_for_all_seeds(prepared.dataset, without=() if split.shown is None else (BATCH,)),
        numbers=numbers_of(prepared.device),
    )


class TrainingObjective:
    """The real objective: :func:`painvrl.run.pipeline.run` on data that are prepared once a split.

    Args:
        config: any of the configurations; what its data and split hold is reported. A study's trials all
            share them; where jobs differ in them, those of one split should follow each other.
        cache_dir: for prepared data.
        device: where to train.
        share_pretrained: keep pretrained backbones for other trials, and in ``cache_dir`` for other
            processes, too. Worth it where pretrainings come back.
        keep: takes every completed job; sent to other processes, so it must be picklable.
        seeds: how many splits jobs go back and forth between; so many stay on the device.
        resume_dir: for trials under way: one that is killed continues when its configuration is trained
            again. ``None`` keeps none.

    Raises:
        UserError: the data are missing or break a rule.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        cache_dir: Path,
        device: torch.device,
        share_pretrained: bool = False,
        keep: Callable[[TrainedJob], None] | None = None,
        seeds: int = 1,
        resume_dir: Path | None = None,
    ) -> None:
        self._device = device
        self._cache_dir = cache_dir
        self._keep = keep
        self._pretrained = PretrainedStore(cache_dir / "pretrained") if share_pretrained else None
        self._resume_dir = resume_dir
        self._splits = seeds
        self._prepared: OrderedDict[str, OrderedDict[str, Prepared]] = OrderedDict()
        self.data: DataSummary = summary_of(self._prepare(config))

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        """Train one configuration."""
        observer = _Recorder(job, on_stage, on_rung)
        reset_peak_memory(self._device)
        under: list[UnderSeed] = []
        try:
            # Only what passes as no `Exception` leaves the trial to be gone on with, under all of its seeds.
            with ExitStack() as states:
                under.append(self._trained(job, observer, states))
                for again in job.repeated(under[0].scored):
                    # One after another: a failure says how many are done.
                    under.append(self._trained(again, observer.under(again), states))  # noqa: PERF401
        except _Stopped as stop:
            return Pruned(
                rung=stop.rung,
                message=stop.message,
                metrics=without_curve(stop.metrics),
                curves=tuple(observer.points),
                seconds=observer.seconds(),
            )
        except TrialFailure as failure:
            return Failed(reason=failure.reason, message=_under(job, under) + _one_line(failure))
        except (PlaceError, StudyError):  # of a disk, or of the storage that was asked at a rung
            raise
        except UserError as error:
            return Failed(reason="refused", message=_under(job, under) + _one_line(error))
        except Exception as error:  # noqa: BLE001 (a trial must not take the study with it)
            failed = failed_by(error)
            return replace(failed, message=_under(job, under) + failed.message)
        outcome = self._outcome(job, under, observer)
        if self._keep is not None and isinstance(outcome, Completed):
            self._keep(TrainedJob(job=job, under=tuple(under), outcome=outcome))
        return outcome

    def _trained(self, job: Job, observer: _Recorder, states: ExitStack) -> UnderSeed:
        """Train a job under its own seed and score its points."""
        prepared = self._prepare(job.config)
        key = run_key(job.config, prepared, branch=job.weighs_a_branch)
        kept = partial(observer.on_stage, KEPT)
        state = states.enter_context(run_state(self._resume_dir, key, self._device, kept=kept))
        observer.began_before(state.seconds)
        result = run(
            job.config,
            prepared,
            observer=observer,
            branch=job.weighs_a_branch,
            look=_look(job, prepared),
            store=self._pretrained,
            state=state,
        )
        if job.sweep is None:
            return UnderSeed(prepared=prepared, result=result, mixed=state.mixed)
        start = time.perf_counter()
        observer.stage("sweep")
        trained = (job.config, result.parts, prepared.valid_plan)
        at, plan, out = job.at, job.sweep, result.left_out
        scored = scored_at(*trained, at, plan.objectives, out) if at else sweep(*trained, plan, out)
        seconds = time.perf_counter() - start
        return UnderSeed(
            prepared=prepared, result=result, scored=scored, sweep_seconds=seconds, mixed=state.mixed
        )

    def _outcome(self, job: Job, under: Sequence[UnderSeed], observer: _Recorder) -> Outcome:
        """What a job has come to: the means over its seeds, and what is inside of the first."""
        first = under[0].result
        metrics = [each.result.metrics for each in under]
        points = mean_points([[one.point for one in each.scored] for each in under])
        if points:
            assert job.sweep is not None
            place = reported(points, job.sweep)
            metrics = [each.scored[place].point.metrics for each in under]
        stages = {name: None for each in under for name in each.seconds}
        return completed(
            Completed(
                metrics=mean_metrics(metrics),
                first=dict(metrics[0]) if len(under) > 1 else {},
                points=points,
                rounds=tuple(report.metrics for report in first.rounds),
                mask_trace=tuple(thinned(report.trace for report in first.rounds)),
                curves=tuple(observer.points),
                seconds={name: sum(each.seconds.get(name, 0.0) for each in under) for name in stages},
                epochs=dict(first.epochs),
                peak_memory_mib=peak_memory_mib(self._device),
                mixed=tuple(dict.fromkeys(name for each in under for name in each.mixed)),
            )
        )

    def _prepare(self, config: TrainConfig) -> Prepared:
        # Of what `prepare` reads only the features may differ between trials of one study under one seed:
        # the split and what is indexed of it are everybody's.
        split = config.model_dump_json(include=set(FIXED_SECTIONS))
        key = config.model_dump_json(include={"features": True, "environments": {"column"}})
        if split not in self._prepared:
            while len(self._prepared) >= self._splits:
                self._prepared.popitem(last=False)  # before the next one takes the device's memory
            prepared = prepare(config, cache_dir=self._cache_dir, device=self._device)
            self._prepared[split] = OrderedDict({key: prepared})
        self._prepared.move_to_end(split)
        known = self._prepared[split]
        if key not in known:
            last = next(reversed(known.values()))
            if len(known) == _PREPARED:
                known.popitem(last=False)
            known[key] = with_features(last, config)
        known.move_to_end(key)
        return known[key]


def _under(job: Job, done: Sequence[UnderSeed]) -> str:
    """Begins the message of a failure: under which seed, where there are several."""
    return f"under seed {job.seed + len(done)}: " if job.seeds > 1 else ""


def _look(job: Job, prepared: Prepared) -> RungSweep | None:
    """How a trial that is swept is judged at its rungs."""
    if job.sweep is None or not job.rungs:
        return None
    return RungSweep(config=job.config, ranking=prepared.valid_plan, rungs=job.rungs, plan=job.sweep)


def failed_by(error: Exception) -> Failed:
    """The failure of a trial that ended with an error which no one foresaw.

    Raises:
        PlaceError: a disk that is full, or the like, is to blame, and every trial would meet it.
    """
    if is_of_the_place(error):
        raise PlaceError.of(cast("OSError", error), "the trial cannot go on") from error
    return Failed(
        reason="out_of_memory" if is_out_of_memory(error) else "unexpected",
        message=_one_line(error),
        log="".join(traceback.format_exception(error)),
    )


@dataclass
class _Stopped(Exception):
    """Ends a run at a rung."""

    rung: str
    message: str
    metrics: Mapping[str, float]


class _Recorder:
    """Passes stages on, keeps the curves (they are logged in one batch when the trial ends), and stops a run
    that takes too long or is judged hopeless.
    """

    def __init__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> None:
        self.points: list[CurvePoint] = []
        self._job = job
        self.on_stage = on_stage
        self._on_rung = on_rung
        self.begun = self._now()
        self._earlier: Mapping[str, float] = {}
        self._stages: list[tuple[str, float]] = []

    def began_before(self, seconds: Mapping[str, float]) -> None:
        """So long did each stage of a trial that continues take until it was killed."""
        self._earlier = dict(seconds)
        self.begun -= sum(seconds.values())

    def stage(self, name: str) -> None:
        if not name.startswith(GOES_ON):
            self._stages.append((name, self._now()))
        self._check_time()
        self.on_stage(name)

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.points.append(CurvePoint(curve=name, step=step, values=without_curve(values)))
        self._check_time()
        rung = f"{name}/{step}"
        if rung in self._job.rungs and (message := self._on_rung(rung, values)) is not None:
            raise _Stopped(rung, message, values)

    def seconds(self) -> dict[str, float]:
        """Wall time of each stage so far, by the name that it announced; that before a kill included."""
        ends = [*(start for _, start in self._stages[1:]), self._now()]
        now = {name: end - start for (name, start), end in zip(self._stages, ends, strict=True)}
        return {name: self._earlier.get(name, 0.0) + now.get(name, 0.0) for name in {**self._earlier, **now}}

    def under(self, job: Job) -> _Recorder:
        """The recorder of the same trial under a further seed: its time adds up, its curves are not kept."""
        return _Later(job, self)

    def _check_time(self) -> None:
        limit = self._job.timeout
        if limit is not None and (spent := self._now() - self.begun) > limit:
            raise OutOfTime(f"it was not finished after {spent:.0f} s; a trial may take {limit:g} s")

    def _now(self) -> float:
        return time.perf_counter()


class _Later(_Recorder):
    """Listens to a trial under a further seed."""

    def __init__(self, job: Job, first: _Recorder) -> None:
        super().__init__(job, self._reported, lambda *_: None)
        self._first = first
        self.begun = first.begun

    def began_before(self, seconds: Mapping[str, float]) -> None:
        super().began_before(seconds)
        self._first.begun = self.begun  # the seeds after this one began as long ago

    def _reported(self, name: str) -> None:
        if name == KEPT:
            self._first.on_stage(name)
            return
        goes_on = name.startswith(GOES_ON)  # people wait for these words at the beginning
        self._first.on_stage(
            f"{name}, seed {self._job.seed}" if goes_on else f"seed {self._job.seed}: {name}"
        )


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text if isinstance(error, PainvrlError) else f"{type(error).__name__}: {text}")[:500]
