"""The parts of a split that are scored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from painvrl.data.interactions import Interactions

LOEO = "loeo"
"""What metrics of environments that were left out of train are called before their slash."""

_NAMED_OOD = re.compile(r"ood_[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Interactions to be predicted, and the items among which they are ranked.

    Attributes:
        name: ``iid_valid``, ``ood_valid``, ``iid_test``, ``ood_test``, or ``ood_NAME_valid`` and
            ``ood_NAME_test`` of further OOD parts.
        interactions: the positives; every one of their items is a candidate.
        candidates: ``[I]`` bool, the items that are ranked when this part is scored.
        held_out: the candidates are items that train never sees.
    """

    name: str
    interactions: Interactions
    candidates: Tensor
    held_out: bool = False


@dataclass(frozen=True, kw_only=True)
class TestParts:
    """The test parts, once they were opened.

    Attributes:
        parts: by the name of the valid part's metrics: ``iid``, ``ood``, and further ``ood_NAME``.
        reads: how often these test parts have been read, this time included.
    """

    __test__ = False  # pytest would take the class for a test case

    parts: Mapping[str, Part]
    reads: int

    @property
    def iid_test(self) -> Part:
        """Like the training data."""
        return self.parts["iid"]

    @property
    def ood_test(self) -> Part:
        """Shifted; the first OOD part where there are several."""
        return next(part for name, part in self.parts.items() if name != "iid")


def is_scored_name(name: str) -> bool:
    """Whether a pair of valid and test parts may be called ``name``: ``iid``, ``ood`` or ``ood_NAME``.

    ``NAME`` must not end like a part's stage, so that ``ood_test`` is never the metric of a valid part.
    """
    named = _NAMED_OOD.fullmatch(name) is not None and not name.endswith(("_valid", "_test"))
    return name in {"iid", "ood"} or named


def ood_mean(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What the metrics ``ood/...`` are the mean of: all OOD parts, where none is called plain ``ood``."""
    shifted = tuple(name for name in names if name != "iid")
    return {} if "ood" in shifted else {"ood": shifted}
