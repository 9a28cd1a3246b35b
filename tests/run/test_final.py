from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from painvrl.core.errors import ConfigError, PlaceError
from painvrl.data.guard import AccessLog
from painvrl.data.interactions import Interactions
from painvrl.run.config import TrainConfig
from painvrl.run.final import evaluate_test, refit
from painvrl.run.pipeline import run
from painvrl.run.prepare import prepare

if TYPE_CHECKING:
    from painvrl.data.parts import Part
    from painvrl.run.pipeline import RunResult
    from painvrl.run.prepare import Prepared


class Lengths:
    """Remembers the last epoch of every training."""

    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}

    def stage(self, name: str) -> None:
        pass

    def curve(self, name: str, step: int, values: Mapping[str, float]) -> None:
        self.epochs[name] = step


def pairs(*parts: Interactions) -> set[tuple[int, int]]:
    return {pair for part in parts for pair in zip(part.user.tolist(), part.item.tolist(), strict=True)}


def slow_recall(
    result: RunResult, part: Part, candidates: set[int], hidden: set[tuple[int, int]], k: int
) -> float:
    """Mean recall of a part, from a sorted list per user."""
    scores = (result.user_vectors.double() @ result.item_vectors.double().T).tolist()
    wanted: dict[int, set[int]] = {}
    for user, item in pairs(part.interactions):
        wanted.setdefault(user, set()).add(item)
    recalls = []
    for user, positives in wanted.items():
        ranked = sorted(
            (item for item in candidates if (user, item) not in hidden), key=lambda item: -scores[user][item]
        )
        recalls.append(len(positives & set(ranked[:k])) / len(positives))
    return sum(recalls) / len(recalls)


def cold(settings: dict[str, Any], folder: Path) -> tuple[TrainConfig, Prepared]:
    config = TrainConfig.model_validate(settings | {"split": {"protocol": "cold_item"}})
    return config, prepare(config, cache_dir=folder, device=torch.device("cpu"))


@pytest.fixture
def access_log(tmp_path: Path) -> AccessLog:
    return AccessLog(tmp_path / "reads.jsonl")


@pytest.mark.parametrize("retrained", [False, True], ids=["train", "refit"])
@pytest.mark.parametrize("protocol", ["planted", "cold_item"])
def test_test_metrics_equal_a_brute_force(
    tiny_settings: dict[str, Any], tmp_path: Path, access_log: AccessLog, protocol: str, retrained: bool
) -> None:
    config = TrainConfig.model_validate(tiny_settings | {"split": {"protocol": protocol}})
    prepared = prepare(config, cache_dir=tmp_path, device=torch.device("cpu"))
    result = run(config, prepared)
    if retrained:
        result = refit(config, prepared, steps_of=result)
    found = evaluate_test(result, prepared, access_log=access_log, reader="a test")
    split = prepared.split
    tests = split.sealed.open(access_log, "the oracle")
    seen = pairs(split.train, split.iid_valid.interactions, split.ood_valid.interactions)
    for part, other in ((tests.iid_test, tests.ood_test), (tests.ood_test, tests.iid_test)):
        candidates = set(part.candidates.nonzero(as_tuple=True)[0].tolist())
        if retrained and protocol == "cold_item" and part.name == "ood_test":
            # The refit has seen these; a warm item would push the cold ones out.
            candidates -= set(split.ood_valid.interactions.item.tolist())
        for k in config.evaluation.ks:
            expected = slow_recall(result, part, candidates, seen | pairs(other.interactions), k)
            assert found.metrics[f"{part.name}/recall_at_{k}"] == pytest.approx(expected, abs=1e-9)
    assert len(found.metrics) == 2 * 5 * len(config.evaluation.ks)
    assert all(math.isfinite(value) for value in found.metrics.values())


def test_every_read_of_the_test_parts_is_counted(
    tiny_prepared: Prepared, tiny_result: RunResult, access_log: AccessLog
) -> None:
    first = evaluate_test(tiny_result, tiny_prepared, access_log=access_log, reader="first")
    second = evaluate_test(tiny_result, tiny_prepared, access_log=access_log, reader="second")
    assert (first.reads, second.reads) == (1, 2)
    assert first.metrics == second.metrics
    readers = [json.loads(line)["reader"] for line in access_log.path.read_text().splitlines() if line]
    assert readers == ["first", "second"]


def test_without_an_access_log_nothing_is_read(
    tiny_prepared: Prepared, tiny_result: RunResult, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaceError, match="access log"):
        evaluate_test(
            tiny_result, tiny_prepared, access_log=AccessLog(tmp_path / "file" / "x"), reader="nobody"
        )


def test_a_refit_trains_on_the_valid_parts_too_for_the_chosen_epochs(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    lengths = Lengths()
    again = refit(tiny_config, tiny_prepared, steps_of=tiny_result, observer=lengths)
    assert again.refit
    assert not tiny_result.refit
    assert lengths.epochs == again.epochs == tiny_result.epochs
    split = tiny_prepared.split
    everything = pairs(split.train, split.iid_valid.interactions, split.ood_valid.interactions)
    assert again.environments is not None
    assert again.environments.label.shape == (len(everything),)
    assert not torch.equal(again.user_vectors, tiny_result.user_vectors)


def test_a_refit_keeps_the_valid_metrics_of_the_run_before(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    assert refit(tiny_config, tiny_prepared, steps_of=tiny_result).metrics == tiny_result.metrics


def test_a_refit_warms_the_valid_items_of_a_cold_split(tiny_settings: dict[str, Any], tmp_path: Path) -> None:
    config, prepared = cold(tiny_settings, tmp_path)
    result = run(config, prepared)
    again = refit(config, prepared, steps_of=result)
    id_part = slice(0, config.backbone.id_dim)
    valid = prepared.split.ood_valid.interactions.item.unique()
    assert float(result.item_vectors[valid, id_part].abs().max()) == 0.0
    assert float(again.item_vectors[valid, id_part].abs().min(dim=0).values.max()) > 0.0


def test_a_refit_repeats_bitwise(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tiny_result: RunResult
) -> None:
    first = refit(tiny_config, tiny_prepared, steps_of=tiny_result)
    again = refit(tiny_config, tiny_prepared, steps_of=tiny_result)
    assert torch.equal(first.item_vectors, again.item_vectors)
    assert torch.equal(first.mask, again.mask)


def test_a_refit_with_true_environments_is_refused(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    environments = tiny_settings["environments"] | {"assignment": "given"}  # type: ignore[operator]
    config = TrainConfig.model_validate(tiny_settings | {"environments": environments})
    result = run(config, tiny_prepared)
    with pytest.raises(ConfigError, match=r"environments\.assignment"):
        refit(config, tiny_prepared, steps_of=result)


def test_a_refit_keeps_the_mask_of_known_environments(tiny_settings: dict[str, Any], tmp_path: Path) -> None:
    """OOD rows would be an environment of which nobody has judged a mask."""
    environments = {"assignment": "column", "column": {"column": "popularity", "bins": 2}}
    config, prepared = cold(tiny_settings | {"environments": environments}, tmp_path)
    before = run(config, prepared)
    again = refit(config, prepared, steps_of=before)
    assert torch.equal(again.mask, before.mask)
    assert again.environments is before.environments
    assert again.rounds == before.rounds
    assert again.refit
