"""Split protocols: where in-distribution (IID) and out-of-distribution (OOD) data come from.

Every split has disjoint parts: ``train``, ``iid_valid``, ``ood_valid``, and, behind a seal,
``iid_test`` and ``ood_test``; some protocols make several OOD parts. A split is a function of the data
set's content, the configuration and the seed; the order of the interactions does not matter.
"""

from painvrl.data.parts import Part, TestParts
from painvrl.data.splits.given import GivenSplit, OfficialSplit, PlantedSplit
from painvrl.data.splits.held_out import ColdItemSplit, ItemGroupSplit, UserGroupSplit
from painvrl.data.splits.popularity import PopularitySplit
from painvrl.data.splits.split import Split, SplitConfig, make_split
from painvrl.data.splits.temporal import TemporalSplit, TemporalUserSplit

__all__ = [
    "ColdItemSplit",
    "GivenSplit",
    "ItemGroupSplit",
    "OfficialSplit",
    "Part",
    "PlantedSplit",
    "PopularitySplit",
    "Split",
    "SplitConfig",
    "TemporalSplit",
    "TemporalUserSplit",
    "TestParts",
    "UserGroupSplit",
    "make_split",
]
