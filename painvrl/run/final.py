"""What only the chosen configuration gets: a refit on more data, and the sealed test parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from painvrl.core.errors import ConfigError, TrialFailure
from painvrl.core.observer import Observer
from painvrl.data.guard import AccessLog
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.data.splits import Split
from painvrl.evaluation.ranking import evaluate
from painvrl.run.config import TrainConfig
from painvrl.run.known import groups_of
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared, plan_parts, with_train
from painvrl.run.state import run_key, run_state


@dataclass(frozen=True, kw_only=True)
class TestEvaluation:
    """Metrics of the test parts: ``iid_test/...``, ``ood_test/...``, and ``ood_NAME_test/...``.

    ``reads``: how often the test parts of this split have been read, this time included.
    """

    __test__ = False  # pytest would take the class for a test case

    metrics: Mapping[str, float]
    reads: int


def refit(
    config: TrainConfig,
    prepared: Prepared,
    *,
    steps_of: RunResult,
    observer: Observer | None = None,
    resume_dir: Path | None = None,
) -> RunResult:
    """Train ``config`` on the train and all valid parts, for the epochs that early stopping chose.

    Users of a valid part who were folded in are trained then, on their support, too.

    Args:
        config: of the run before.
        prepared: its data.
        steps_of: the run before; its epochs are trained, its valid metrics are kept, since a model that
            was trained on the valid parts cannot be judged on them.
        observer: is called on stages and curves.
        resume_dir: for the refit under way: one that is killed continues. ``None`` keeps nothing.
    """
    enlarged = with_train(config, prepared, _trained_on(prepared.split))
    key = run_key(config, enlarged, steps_of.epochs)
    # Known environments are those of the train part: OOD rows would be one that nobody has judged.
    known = config.environments.assignment == "column"
    mask = steps_of.mask if known else None
    with run_state(resume_dir, key, prepared.device, final=TrialFailure) as state:
        result = run(config, enlarged, observer=observer, epochs=steps_of.epochs, mask=mask, state=state)
    if known:
        result = replace(result, environments=steps_of.environments, rounds=steps_of.rounds)
    return replace(result, metrics=steps_of.metrics, refit=True)


def check_refit(config: TrainConfig, prepared: Prepared) -> None:
    """Say what would stop a :func:`refit` before the training that it follows.

    Raises:
        ConfigError: it trains on environments that the rows of the valid parts do not have.
    """
    environments, learned = config.environments, config.mask.source == "learned"
    if learned and environments.assignment == "given":
        rule = "--refit adds OOD rows, which have no true environment"
        raise ConfigError(rule, key="environments.assignment", value="given")
    if not (config.backbone.reads_environments or (learned and environments.start == "column")):
        return
    try:
        groups_of(config, prepared.dataset, _trained_on(prepared.split))
    except ConfigError as error:
        rule = f"with the valid parts, which --refit adds: {error.rule}"
        raise ConfigError(rule, key=error.key, value=error.value) from None


def _trained_on(split: Split) -> Interactions:
    """What a refit trains on."""
    parts = [split.train, *(part.interactions for part in split.valid.values())]
    if split.support is not None:
        validated = torch.stack([part.user_degree() for part in parts]).sum(dim=0) > 0
        parts.append(split.support.select(validated[split.support.user]))
    return Interactions(
        user=torch.cat([part.user for part in parts]),
        item=torch.cat([part.item for part in parts]),
        n_users=split.train.n_users,
        n_items=split.train.n_items,
    )


def evaluate_test(
    result: RunResult, prepared: Prepared, *, access_log: AccessLog, reader: str
) -> TestEvaluation:
    """Open and score all test parts; the access log counts it.

    Each user's positives of train, of the support, of all valid parts and of the other test parts are
    hidden. Where a part is ranked among held-out items only, those of the valid parts are warm after a
    refit; they are no candidates then, or they would push the cold ones out.

    Raises:
        DataError: the access log cannot be written.
    """
    split = prepared.split
    tests = split.sealed.open(access_log, reader)
    seen = [split.train, *(part.interactions for part in split.valid.values())]
    seen += [] if split.support is None else [split.support]
    parts = {}
    for name, part in tests.parts.items():
        candidates = part.candidates
        if result.refit and part.held_out:
            candidates = candidates & ~(_warmed(split) & ~_items(part))
        parts[f"{name}_test"] = replace(part, candidates=candidates)
    means = {f"{mean}_test": tuple(f"{name}_test" for name in names) for mean, names in split.means.items()}
    plan = plan_parts(
        parts, seen, prepared.evaluation, prepared.device, data=prepared.dataset.columns, means=means
    )
    metrics = evaluate(plan, result.user_vectors, result.item_vectors)
    return TestEvaluation(metrics=metrics, reads=tests.reads)


def _warmed(split: Split) -> Tensor:
    """``[I]`` bool: items that a refit trains on and the training before did not."""
    return torch.stack([_items(part) for part in split.valid.values()]).any(dim=0)


def _items(part: Part) -> Tensor:
    """``[I]`` bool: items of the positives, which are candidates whatever else was trained on."""
    return part.interactions.item_degree() > 0
