"""The sections of :mod:`benchmarks.gpu`: names, and what each one measures.

A section makes its data when its first measurement asks for them, on the device. Clocks are read when the
device has done its work, and nothing waits for it in between.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import gpu_together, ours
from benchmarks.common import CACHE, config, merged
from benchmarks.gpu_data import NotMeasured, Place, drawn, study_settings
from benchmarks.published_folders import PUBLISHED
from benchmarks.sizes import SIZES
from painvrl.core.device import peak_memory_mib, reset_peak_memory
from painvrl.core.errors import UserError
from painvrl.core.rng import generator
from painvrl.evaluation.ranking import evaluate
from painvrl.model.fit import TrainingConfig, fit
from painvrl.model.losses import SampledLoss
from painvrl.model.ultragcn import Backbone
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared, prepare

ROOT = Path(__file__).parent.parent
Figures = Mapping[str, object]
Measurements = Mapping[str, Callable[[], Figures]]
TESTS = {
    "the steps on the device": "tests/test_on_device.py",
    "no step reads back": "tests/test_meta_device.py",
    "a step is one graph": "tests/test_compilation.py",
}
REDUCED_TESTS = ("the steps on the device",)
VARIANTS = [(compiled, precision) for compiled in (False, True) for precision in ("float32", "bfloat16")]
TINY_DATA = {"kind": "planted", "n_users": 300, "n_items": 400, "interactions_per_environment": 25}
SHORT = {
    "training": {"max_epochs": 6, "evaluate_every": 3},
    "environments": {"restarts": 1, "steps": 3},
    "mask": {"steps": 3},
    "rounds": 1,
}
REDUCED_SCALE = 0.005
COMPILING = ": compiling for a CPU takes longer than all the rest"


@dataclass(frozen=True, kw_only=True)
class Section:
    """Its share of the time, and its measurements by name, the ones that matter most first."""

    share: float
    measurements: Callable[[Place], Measurements]


def device_tests(place: Place) -> Measurements:
    """The tests that say something about a device; the first file computes on the one of the machine."""

    def passed(file: str) -> Figures:
        if importlib.util.find_spec("pytest") is None:
            raise NotMeasured("this interpreter has no pytest")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.xml")
            said = subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"),
                    *(f"--junitxml={report}", f"--basetemp={folder}/tests", file),
                ],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            if not report.exists():
                raise RuntimeError((said.stderr or said.stdout)[-200:])
            suites = ET.parse(report).getroot()
        counts = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "skipped")}
        broken = [
            case for case in suites.iter("testcase") if {"failure", "error"} & {part.tag for part in case}
        ]
        return {**counts, "failed": len(broken), "named": " ".join(str(case.get("name")) for case in broken)}

    return {
        name: functools.partial(passed, file)
        for name, file in TESTS.items()
        if not place.reduced or name in REDUCED_TESTS
    }


def agreement(place: Place) -> Measurements:
    """A small training with the whole method on the device and on the CPU, from equal draws."""

    def compared(precision: str) -> Figures:
        changes = {"data": TINY_DATA, "split": {"protocol": "planted"}, "backbone": {"precision": precision}}
        settings = config(changes, {"training": {"max_epochs": 30, "patience": 30}, "rounds": 1})
        settings = config(settings.model_dump(mode="json"), SHORT if place.reduced else {})
        reported: list[list[float]] = []
        runs: list[RunResult] = []
        data: list[Prepared] = []
        for device in (torch.device("cpu"), place.device):
            watch = Watch(place)
            data.append(prepare(settings, cache_dir=CACHE, device=device))
            runs.append(run(settings, data[-1], observer=watch))
            reported.append(watch.losses)
        one, other = (run.metrics for run in runs)
        farthest = max(one, key=lambda name: abs(one[name] - other[name]))
        vectors = [vectors.to(place.device) for vectors in (runs[0].user_vectors, runs[0].item_vectors)]
        ranked = evaluate(data[1].valid_plan, *vectors)
        on_cpu = evaluate(data[0].valid_plan, runs[0].user_vectors, runs[0].item_vectors)
        return {
            "first_loss_relative_difference": abs(reported[1][0] / reported[0][0] - 1),
            "last_loss_relative_difference": abs(reported[1][-1] / reported[0][-1] - 1),
            "largest_difference_of_a_metric": abs(one[farthest] - other[farthest]),
            "the_metric": farthest,
            "on_the_cpu": one[farthest],
            "of_equal_vectors_largest_difference": max(abs(on_cpu[name] - ranked[name]) for name in on_cpu),
        }

    return {precision: functools.partial(compared, precision) for precision in ("float32", "bfloat16")}


class Watch:
    """Hears of a run: what its stages take once the device has done their work, and its losses."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._last: tuple[str, float] | None = None
        self.seconds: dict[str, float] = {}
        self.losses: list[float] = []

    def stage(self, name: str) -> None:
        """A stage begins and the one before ends; rounds count together."""
        self._place.synchronize()
        now = time.perf_counter()
        if self._last is not None:
            stage, since = self._last
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - since
        self._last = (name.rpartition(": ")[2], now)

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the loss."""
        self.losses.append(values["loss"])


def trial(place: Place) -> Measurements:
    """A trial of studies/movielens.yaml's own point; without its data on planted ones of that size."""
    base = study_settings("movielens").model_dump(mode="json")
    planted = {**base, "data": TINY_DATA if place.reduced else {"kind": "planted", **SIZES["small"]}}

    @functools.cache
    def data() -> tuple[str, dict[str, Any], Prepared]:
        if not place.reduced:
            try:
                found = prepare(config(base), cache_dir=ROOT / CACHE, device=place.device)
            except (ImportError, UserError) as error:
                print(f"MovieLens is not here, so data are planted: {error}", file=sys.stderr)
            else:
                return "movielens", base, found
        return "planted", planted, prepare(config(planted), cache_dir=ROOT / CACHE, device=place.device)

    def timed(precision: str, *, compiled: bool) -> Figures:
        if compiled:
            place.need_cuda(COMPILING)
        kind, settings, prepared = data()
        changed = config(
            merged(settings, SHORT if place.reduced else {}),
            {"backbone": {"precision": precision}, "training": {"compile": compiled}},
        )

        def once() -> tuple[float, Watch, RunResult]:
            watch = Watch(place)
            place.synchronize()
            reset_peak_memory(place.device)
            start = time.perf_counter()
            result = run(changed, prepared, observer=watch)
            watch.stage("end")
            return time.perf_counter() - start, watch, result

        first = once()[0]  # loads kernels, and compiles
        second, watch, result = once()
        return {
            "data": kind,
            "first_seconds": first,
            "second_seconds": second,
            **watch.seconds,
            "epochs": sum(result.epochs.values()),
            "peak_mib": peak_memory_mib(place.device),
            "iid_ndcg_at_20": result.metrics["iid/ndcg_at_20"],
        }

    return {
        f"{'compiled' if compiled else 'eager'}, {precision}": functools.partial(
            timed, precision, compiled=compiled
        )
        for compiled, precision in VARIANTS
    }


def published_sizes(place: Place) -> Measurements:
    """Epochs of the backbone at the published sizes, with the settings of the studies; no rankings."""

    @functools.lru_cache(maxsize=1)
    def data(study: str) -> tuple[TrainConfig, Tensor, Any]:
        size = PUBLISHED[study].scaled(REDUCED_SCALE if place.reduced else 1.0)
        return study_settings(study), *drawn(size, place.device)

    def timed(study: str, loss: str, precision: str, *, compiled: bool) -> Figures:
        if compiled:
            place.need_cuda(COMPILING)
        settings, features, training = data(study)
        gc.collect()
        reset_peak_memory(place.device)
        changes: dict[str, object] = {"precision": precision}
        if loss == "sampled":
            changes["loss"] = SampledLoss()
        model = ours.model(features, training, settings.backbone.model_copy(update=changes))
        count = 1 if loss == "sampled" or place.reduced else 20
        first, again = epoch_seconds(
            model, settings.training.model_copy(update={"compile": compiled}), count, place
        )
        return {
            "epoch_seconds": again,
            "first_epochs_seconds": first * count,
            "peak_mib": peak_memory_mib(place.device),
            "features_mib": features.nbytes / 2**20,
            "pairs": training.n_pairs,
        }

    return {
        f"{study}, {loss}, {precision}, {'compiled' if compiled else 'eager'}": functools.partial(
            timed, study, loss, precision, compiled=compiled
        )
        for loss in ("gramian", "sampled")
        for compiled, precision in VARIANTS
        for study in PUBLISHED
    }


def epoch_seconds(model: Backbone, training: TrainingConfig, count: int, place: Place) -> tuple[float, float]:
    """Seconds of an epoch in the first ``count`` epochs, which compile, and in as many after them."""
    ends = [time.perf_counter()]

    def note_end() -> None:
        place.synchronize()
        ends.append(time.perf_counter())

    fit(
        model,
        training.model_copy(update={"evaluate_every": count}),
        generator(0, "benchmark", "fit"),
        evaluate=None,
        observe=lambda *_: note_end(),
        epochs=2 * count,
    )
    begin, between, end = ends
    return (between - begin) / count, (end - between) / count


SECTIONS: Mapping[str, Section] = {
    "device tests": Section(share=0.1, measurements=device_tests),
    "agreement with the CPU": Section(share=0.08, measurements=agreement),
    "a default trial": Section(share=0.25, measurements=trial),
    "published sizes": Section(share=0.32, measurements=published_sizes),
    "several trainings on one device": Section(share=0.25, measurements=gpu_together.measurements),
}
