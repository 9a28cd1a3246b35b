"""The rounds of a run: what its environments and masks are learned from, and what it reports of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from painvrl.core.errors import ConfigError, EmptyEnvironment
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import run
from painvrl.run.prepare import prepare

if TYPE_CHECKING:
    from painvrl.run.prepare import Prepared

CPU = torch.device("cpu")


def changed(settings: dict[str, Any], **sections: Any) -> TrainConfig:
    merged = dict(settings)
    for key, value in sections.items():
        merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    return TrainConfig.model_validate(merged)


def test_rounds_report_what_was_learned(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    config = changed(tiny_settings, rounds=3, mask={"sparsity": 0.4})
    result = run(config, tiny_prepared)
    assert len(result.rounds) == 3
    n_pairs = len(tiny_prepared.split.train)
    for report in result.rounds:
        reported = report.metrics
        assert reported["environments/size_1"] + reported["environments/size_2"] == n_pairs
        assert "environments/size_3" not in reported
        assert reported["mask/sparsity"] == pytest.approx(0.4)
        assert reported["mask/risk"] > 0
        assert 0 <= reported["mask/epsilon"] <= 1
        assert -1 - 1e-6 <= reported["mask/cosine"] <= 1 + 1e-6
        assert reported["environments/converged"] == (reported["environments/moved_share"] <= 0.01)
    first, last = result.rounds[0].metrics, result.rounds[-1].metrics
    assert first["environments/moved_share"] == 1.0
    assert int((result.mask == 0).sum()) == 4
    assert last["mask/density"] == pytest.approx(float(result.mask.mean()))
    found = result.environments
    assert found is not None
    assert found.sizes == (last["environments/size_1"], last["environments/size_2"])
    assert last["environments/moved_share"] == found.moved_share
    assert last["environments/reseeded"] == found.reseeded
    assert last["environments/log_likelihood"] == found.log_likelihood


def test_the_truth_of_other_data_is_not_known(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    nameless = replace(tiny_prepared, dataset=replace(tiny_prepared.dataset, truth=None))
    with pytest.raises(ConfigError, match=r"mask\.source: only planted data knows the true mask"):
        run(changed(tiny_settings, mask={"source": "given"}), nameless)
    config = changed(tiny_settings, environments={"assignment": "given"})
    with pytest.raises(ConfigError, match=r"environments\.assignment: only planted data knows"):
        run(config, nameless)


def test_given_environments_are_those_that_drew_each_training_pair(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    result = run(changed(tiny_settings, environments={"assignment": "given"}), tiny_prepared)
    everything, truth = tiny_prepared.dataset.interactions, tiny_prepared.dataset.truth
    assert truth is not None
    assert result.environments is not None
    drew = dict(
        zip(
            zip(everything.user.tolist(), everything.item.tolist(), strict=True),
            truth.environment.tolist(),
            strict=True,
        )
    )
    train = tiny_prepared.split.train
    pairs = sorted(zip(train.user.tolist(), train.item.tolist(), strict=True))
    assert result.environments.label.tolist() == [drew[pair] for pair in pairs]


def test_each_round_sees_the_variant_part_that_the_last_mask_left(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from painvrl.run import rounds

    seen, masks = [], []
    identify, learn_mask = rounds.identify, rounds.learn_mask

    def watched_identify(features: torch.Tensor, *arguments: Any, **more: Any) -> Any:
        seen.append((features, more["mask"], more["last"]))
        return identify(features, *arguments, **more)

    def watched_learn(*arguments: Any, **more: Any) -> Any:
        masks.append((arguments[0], learn_mask(*arguments, **more)))
        return masks[-1][1]

    monkeypatch.setattr(rounds, "identify", watched_identify)
    monkeypatch.setattr(rounds, "learn_mask", watched_learn)
    run(changed(tiny_settings, rounds=3), tiny_prepared)
    features = tiny_prepared.features
    assert all(sees is features for sees, _, _ in seen)
    assert seen[0][1].tolist() == [0.5] * features.shape[1]
    assert seen[0][2] is None
    assert masks[0][0].mu.abs().max() == 0
    for earlier, later in ((0, 1), (1, 2)):
        assert seen[later][1] is masks[earlier][1].mask
        assert seen[later][2] is not None
        assert masks[later][0] is masks[earlier][1].learned


def test_rounds_of_hard_em_go_on_from_the_last_and_report_their_moves(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    environments = {"assignment": "hard_em", "hard_em": {"max_rounds": 30, "content_dim": 3}}
    result = run(changed(tiny_settings, rounds=2, environments=environments), tiny_prepared)
    first, second = (report.metrics for report in result.rounds)
    for reported in (first, second):
        assert 1 <= reported["environments/em_rounds"] <= 30
        assert reported["environments/converged"] == (reported["environments/em_moved_share"] <= 0.01)
    assert first["environments/moved_share"] == 1.0
    assert second["environments/moved_share"] < 0.4  # fresh random labels would move half of them
    again = run(changed(tiny_settings, rounds=2, environments=environments), tiny_prepared)
    assert again.metrics == result.metrics
    assert torch.equal(again.mask, result.mask)


def test_too_many_environments_for_the_data_are_a_failed_trial(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    data = tiny_settings["data"] | {"n_users": 8, "interactions_per_environment": 2}
    config = changed(
        tiny_settings, data=data, split={"iid_share": 0.2}, environments={"count": 50, "min_share": 0.0}
    )
    with pytest.raises(EmptyEnvironment, match=r"environments\.count"):
        run(config, prepare(config, cache_dir=tmp_path, device=CPU))
