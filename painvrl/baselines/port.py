"""What a baseline is: settings to search, and a function that fits them to a training part.

Shape letters: ``U`` users, ``I`` items, ``D`` width of score vectors.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from painvrl.core.errors import Diverged
from painvrl.core.rng import derive_seed
from painvrl.core.settings import Settings
from painvrl.evaluation.ranking import DotProducts, Scorer
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Distribution
from painvrl.run.prepare import Prepared

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

EXTRA = "baselines"
"""The extra that installs the packages of every baseline."""

S = TypeVar("S", bound=Settings)
Fit = Callable[[S], Scorer]


@dataclass(frozen=True)
class Inputs:
    """What a baseline learns from: the training part and the features.

    Our own models stop early by the valid parts; no other baseline reads them.

    Attributes:
        config: the run whose data, split and seed these are; our own models train it.
        prepared: the data on the device.
    """

    config: TrainConfig
    prepared: Prepared

    @cached_property
    def matrix(self) -> csr_matrix:
        """``[U, I]`` float32: 1 where the user took the item in training. Not to be written to."""
        from scipy.sparse import csr_matrix

        train = self.prepared.train
        return csr_matrix(
            (np.ones(len(train), dtype=np.float32), (train.user.numpy(), train.item.numpy())),
            shape=(train.n_users, train.n_items),
        )

    @property
    def item_degree(self) -> Tensor:
        """``[I]`` float32 on the device: training interactions of each item; 0 for cold ones."""
        return self.prepared.training.item_degree

    def seed(self, name: str) -> int:
        """A 31-bit seed for a library's own generator, from the run's seed."""
        return derive_seed(self.config.seed, "baseline", name) >> 32


@dataclass(frozen=True, kw_only=True)
class Baseline(Generic[S]):
    """A kind of recommender.

    Attributes:
        name: what the command line calls it.
        summary: what it is, in a line.
        settings: its hyper-parameters; the defaults are the first trial.
        space: which of them are searched, and how far; empty if there are none.
        start: does what all settings share (an index, a decomposition, a training), once a split, and
            returns the function that fits one setting. May raise ``TrialFailure``, as the function may.
        modules: importable names that it needs from the extra.
    """

    name: str
    summary: str
    settings: type[S]
    space: Mapping[str, Distribution]
    start: Callable[[Inputs], Fit[S]]
    modules: tuple[str, ...] = ()

    def missing(self) -> tuple[str, ...]:
        """Those of its modules that are not installed."""
        return tuple(name for name in self.modules if importlib.util.find_spec(name) is None)


def vectors(inputs: Inputs, users: Tensor | np.ndarray, items: Tensor | np.ndarray) -> Scorer:
    """The scorer of vectors ``[U, D]`` and ``[I, D]``, on the device.

    Raises:
        Diverged: a number is not finite.
    """
    device = inputs.prepared.device
    pair = [torch.as_tensor(each).to(device, torch.float32) for each in (users, items)]
    if not all(bool(torch.isfinite(each).all()) for each in pair):
        raise Diverged("the fitted vectors are not finite")
    return DotProducts(*pair)
