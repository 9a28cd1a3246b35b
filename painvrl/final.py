"""What only the chosen configuration gets: a refit on more data, and the sealed test parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from painvrl.config import TrainConfig
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.data.seal import SealLedger
from painvrl.data.splits import ColdItemSplit
from painvrl.evaluation.ranking import evaluate
from painvrl.pipeline import RunResult, run
from painvrl.prepare import Prepared, plan_parts, prepare_split
from painvrl.progress import Observer


@dataclass(frozen=True, kw_only=True)
class TestEvaluation:
    """Metrics of the test parts, ``iid_test/...`` and ``ood_test/...``.

    ``reads``: how often the test parts of this split have been read, this time included.
    """

    __test__ = False  # pytest would take the class for a test case

    metrics: Mapping[str, float]
    reads: int


def refit(
    config: TrainConfig, prepared: Prepared, *, steps_of: RunResult, observer: Observer | None = None
) -> RunResult:
    """Train ``config`` on the train and both valid parts, for the epochs that early stopping chose.

    Args:
        config: of the run before.
        prepared: its data.
        steps_of: the run before; its epochs are trained, its valid metrics are kept, since a model that
            was trained on the valid parts cannot be judged on them.
        observer: hears of stages and curves.
    """
    split = prepared.split
    parts = [split.train, split.iid_valid.interactions, split.ood_valid.interactions]
    more = Interactions(
        user=torch.cat([part.user for part in parts]),
        item=torch.cat([part.item for part in parts]),
        n_users=split.train.n_users,
        n_items=split.train.n_items,
    )
    enlarged = prepare_split(config, prepared.dataset, split, more, prepared.device)
    result = run(config, enlarged, observer=observer, epochs=steps_of.epochs)
    return replace(result, metrics=steps_of.metrics, refit=True)


def evaluate_test(
    result: RunResult, prepared: Prepared, *, ledger: SealLedger, reader: str
) -> TestEvaluation:
    """Break the seal and score both test parts; the ledger counts it.

    Each user's positives of train, of both valid parts and of the other test part are hidden.
    Where a ``cold_item`` split ranks among held-out items only, those of the valid part are warm after
    a refit; they are no candidates then, or they would push the cold ones out.

    Raises:
        DataError: the ledger cannot be written.
    """
    split = prepared.split
    tests = split.sealed.open(ledger, reader)
    seen = [split.train, split.iid_valid.interactions, split.ood_valid.interactions]
    ood = tests.ood_test
    rule = result.config.split
    if result.refit and isinstance(rule, ColdItemSplit) and rule.ood_candidates == "held_out":
        ood = replace(ood, candidates=ood.candidates & ~_has_interaction(split.ood_valid))
    parts = {part.name: part for part in (tests.iid_test, ood)}
    plan = plan_parts(parts, seen, prepared.evaluation, prepared.device)
    metrics = evaluate(plan, result.user_vectors, result.item_vectors)
    return TestEvaluation(metrics=metrics, reads=tests.reads)


def _has_interaction(part: Part) -> Tensor:
    """``[I]`` bool."""
    return part.interactions.item_degree() > 0
