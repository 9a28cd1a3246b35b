"""The parts of a split that are scored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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

    def to(self, device: torch.device) -> Part:
        """The same part on ``device``."""
        return Part(
            name=self.name,
            interactions=self.interactions.to(device),
            candidates=self.candidates.to(device),
        )


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

    def to(self, device: torch.device) -> TestParts:
        """The same parts on ``device``."""
        return TestParts(
            iid_test=self.iid_test.to(device),
            ood_test=self.ood_test.to(device),
            reads=self.reads,
        )
