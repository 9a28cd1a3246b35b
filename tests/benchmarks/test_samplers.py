from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from benchmarks.samplers import ROOT, SAMPLERS, report, spec_of, timed_asks
from painvrl.study.file.spec import load_spec
from painvrl.study.search import asktell
from painvrl.study.search.asktell import Asked, AskTell


def test_arms_differ_in_nothing_but_the_sampler_and_its_seed() -> None:
    base = load_spec(ROOT / "studies" / "movielens.yaml")
    specs = [spec_of(base, 5, sampler, seed) for sampler in SAMPLERS for seed in (0, 1)]
    assert len({(spec.study.sampler, spec.study.seed) for spec in specs}) == 2 * len(SAMPLERS)
    same = {"sampler": "tpe", "seed": 0}
    rest = {
        spec.model_copy(update={"study": spec.study.model_copy(update=same)}).model_dump_json()
        for spec in specs
    }
    assert len(rest) == 1
    assert specs[0].swept == base.swept != {}


def test_every_ask_is_timed_and_only_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()

    def slow(_: AskTell) -> Asked:
        time.sleep(0.01)
        return Asked(number=next(numbers), point={})

    monkeypatch.setattr(asktell.AskTell, "ask", slow)
    adapter: Any = object()
    with timed_asks() as seconds:
        asked = [AskTell.ask(adapter) for _ in range(3)]
    assert [one.number for one in asked if one] == [0, 1, 2]
    assert len(seconds) == 3
    assert min(seconds) >= 0.01
    assert AskTell.ask is slow


def test_the_table_has_the_mean_over_seeds_after_each_number_of_trainings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def study(seed: int, volume: float, count: int) -> dict[str, Any]:
        rows = [[volume * (one + 1), 2.0 * (one + 1), 0.5 * (one + 1)] for one in range(count)]
        return {"sampler": "tpe", "seed": seed, "trainings": rows}

    report([study(0, 1e-4, 10), study(1, 3e-4, 5)], (5, 10))
    said = capsys.readouterr().out
    assert "| tpe | 2 | 10.0000 ± 7.0711 | 10.0000 ± 0.0000 |" in said  # 5 and 15; then one seed
    assert "| tpe | 2 | 10.0000 ± 0.0000 | 20.0000 ± 0.0000 |" in said
    assert "tpe: 20.0% of the seconds are asks" in said
