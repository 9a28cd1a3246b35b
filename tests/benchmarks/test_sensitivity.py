"""Which hyperparameter moves what."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from painvrl.run.pipeline import RunResult
    from painvrl.run.prepare import Prepared

ROOT = Path(__file__).parent.parent.parent


def test_each_protocol_has_the_base_of_its_own_study(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.sensitivity import NAMES, PLANTED, PROTOCOLS, base_of_each
    from painvrl.run.config import TrainConfig
    from painvrl.study.ablation.spec import load_study_file
    from painvrl.study.file.spec import load_spec

    monkeypatch.chdir(ROOT)
    bases = {name: TrainConfig.model_validate(base) for name, base in base_of_each(None).items()}
    assert set(bases) == {*PROTOCOLS, *PLANTED} < set(NAMES)
    movielens = load_spec(Path("studies/movielens.yaml")).config
    assert bases["cold_item"].split == movielens.split
    for name in PROTOCOLS:
        assert bases[name].mask == movielens.mask
        assert bases[name].fusion.variant_weight == 0.5
    planted = load_study_file(Path("studies/planted.yaml")).config
    assert bases["planted"] == planted
    assert bases["planted, 6/1"].mask == planted.mask
    assert bases["planted, 6/1"].data.spurious_strengths == (6.0, 1.0)  # type: ignore[union-attr]


def test_only_a_branch_is_scored_with_other_weights_of_it(
    tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    from benchmarks.sensitivity import rescored

    names = [name for name, _ in rescored(tiny_result, tiny_prepared)]
    assert tiny_result.config.fusion.kind == "branch"
    assert [name for name in names if name.startswith("variant")] == ["variant weight 0", "variant weight 1"]
    fusion = tiny_result.config.fusion.model_copy(update={"kind": "invariant"})
    plain = replace(tiny_result, config=tiny_result.config.model_copy(update={"fusion": fusion}))
    assert [name for name, _ in rescored(plain, tiny_prepared)] == [
        name for name in names if not name.startswith("variant")
    ]


def test_what_needs_a_folder_is_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import sensitivity

    def refuse(*_: object) -> None:
        raise AssertionError("nothing was to be trained")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sensitivity, "measure", refuse)
    monkeypatch.setattr(
        sys, "argv", ["sensitivity", "--protocol", "popularity", "--protocol", "given, weekend"]
    )
    with pytest.raises(SystemExit):
        sensitivity.main()
    assert "given, weekend: needs --ml-100k" in capsys.readouterr().err


def test_protocols_that_were_kept_and_are_not_asked_for_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from benchmarks import sensitivity

    def noise(base: object, seeds: range) -> dict[str, dict[str, np.ndarray]]:
        draws = np.random.default_rng(0)
        return {"": {each: draws.normal(size=(9, len(seeds))) for each in sensitivity.MEASURES}}

    path = tmp_path / "kept.json"
    path.write_text('{"cold_item": "kept", "popularity": "old"}')
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sensitivity, "measure", noise)
    monkeypatch.setattr(sys, "argv", ["sensitivity", "--protocol", "popularity", "--output", str(path)])
    sensitivity.main()
    kept = json.loads(path.read_text())
    assert kept["cold_item"] == "kept"
    assert len(kept["popularity"][""]["iid/ndcg_at_20"]) == 9


def test_every_two_levels_of_two_hyperparameters_meet_once_in_the_array() -> None:
    from benchmarks.sensitivity import KNOBS, L9

    assert {len(row) for row in L9} == {len(KNOBS)}
    for one, other in itertools.combinations(range(len(KNOBS)), 2):
        assert {(row[one], row[other]) for row in L9} == set(itertools.product(range(3), repeat=2))


def test_shares_of_the_variance_are_those_of_the_planted_effects() -> None:
    from benchmarks.sensitivity import L9, analysed

    levels = np.array(L9)
    effects = np.array([[-1.0, 0.0, 1.0], [2.0, -4.0, 2.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    by_seed = np.array([-0.5, 0.0, 0.25, 0.25])
    noise = np.random.default_rng(0).normal(0, 0.1, (9, 4))
    values = (
        sum(effects[hyperparameter][levels[:, hyperparameter]] for hyperparameter in range(4))[:, None]
        + by_seed
        + noise
    )
    shares, seeds, left = analysed(values, levels)
    total = 2 / 3 + 8 + np.var(by_seed) + 0.01
    assert shares[0].share == pytest.approx(2 / 3 / total, abs=0.01)
    assert shares[1].share == pytest.approx(8 / total, abs=0.01)
    assert seeds == pytest.approx(np.var(by_seed) / total, abs=0.01)
    assert sum(share.share for share in shares.values()) + seeds + left == pytest.approx(1)
    assert max(shares[0].p_value, shares[1].p_value) < 1e-6
    assert max(shares[2].share, shares[3].share) < 0.01


def test_a_share_is_called_noise_as_often_as_the_f_test_says() -> None:
    from benchmarks.sensitivity import L9, analysed

    draws = np.random.default_rng(1)
    found = [analysed(draws.normal(size=(9, 5)), np.array(L9))[0][2].p_value for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)
