"""Split protocols: where in-distribution (IID) and out-of-distribution (OOD) data come from.

Every split has disjoint parts: ``train``, ``iid_valid``, ``ood_valid``, and, behind a guard,
``iid_test`` and ``ood_test``; some protocols make several OOD parts. A split is a function of the data
set's content, the configuration and the seed; the order of the interactions does not matter.
"""

from painvrl.data.parts import Part as Part
from painvrl.data.splits.given import GivenSplit as GivenSplit
from painvrl.data.splits.given import OfficialSplit as OfficialSplit
from painvrl.data.splits.given import PlantedSplit as PlantedSplit
from painvrl.data.splits.held_out import ColdItemSplit as ColdItemSplit
from painvrl.data.splits.held_out import ItemGroupSplit as ItemGroupSplit
from painvrl.data.splits.held_out import UserGroupSplit as UserGroupSplit
from painvrl.data.splits.item_range import ItemRangeSplit as ItemRangeSplit
from painvrl.data.splits.modality import MissingModalitySplit as MissingModalitySplit
from painvrl.data.splits.modality import WrongModalitySplit as WrongModalitySplit
from painvrl.data.splits.popularity import PopularitySplit as PopularitySplit
from painvrl.data.splits.split import Split as Split
from painvrl.data.splits.split import SplitConfig as SplitConfig
from painvrl.data.splits.split import make_split as make_split
from painvrl.data.splits.temporal import TemporalSplit as TemporalSplit
from painvrl.data.splits.temporal import TemporalUserSplit as TemporalUserSplit
