"""The parts of a split that are scored."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from painvrl.data.interactions import Interactions


@dataclass(frozen=True, kw_only=True)
class Part:
    """Interactions to be predicted, and the items among which they are ranked.

    Attributes:
        name: ``iid_valid``, ``ood_valid``, ``iid_test`` or ``ood_test``.
        interactions: the positives; every one of their items is a candidate.
        candidates: ``[I]`` bool, the items that are ranked when this part is scored.
    """

    name: str
    interactions: Interactions
    candidates: Tensor


@dataclass(frozen=True, kw_only=True)
class TestParts:
    """The two test parts, after their seal was broken.

    Attributes:
        iid_test: like the training data.
        ood_test: shifted.
        reads: how often the test parts of this split have been read, this time included.
    """

    __test__ = False  # pytest would take the class for a test case

    iid_test: Part
    ood_test: Part
    reads: int
