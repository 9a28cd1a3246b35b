"""What the sections of :mod:`benchmarks.gpu` measure with: a device, a study's settings, data drawn there."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.common import config
from benchmarks.published_folders import Size
from painvrl.core.yamlfile import read_yaml
from painvrl.data.interactions import Interactions
from painvrl.model.training_data import TrainingData, training_data
from painvrl.run.config import TrainConfig

STUDIES = Path(__file__).parent.parent / "studies"
VOCABULARY = 1024
"""Words that become features: the default of the folders' reader."""
COLD = 0.25
"""Share of the items that the studies' splits hold out."""


class NotMeasured(Exception):
    """A measurement that says nothing here."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a section measures. ``reduced``: sizes at which a CPU comes through in seconds."""

    device: torch.device
    reduced: bool

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def need_cuda(self, why: str = "") -> None:
        """Go on with CUDA only.

        Raises:
            NotMeasured: this is another device; ``why`` it would not do.
        """
        if self.device.type != "cuda":
            raise NotMeasured(f"needs CUDA{why}")


@functools.cache  # a clock that runs must not count the reading
def study_settings(study: str) -> TrainConfig:
    """The configuration of ``studies/STUDY.yaml``."""
    settings = read_yaml(STUDIES / f"{study}.yaml")["config"]
    assert isinstance(settings, dict)
    return config(settings)


def drawn(size: Size, device: torch.device) -> tuple[Tensor, TrainingData]:
    """Features ``[I, F]`` and a training part of ``size``, drawn on the device; for timings alone.

    Users are as unequal, items as unequally popular as in :mod:`benchmarks.published_folders`. Eight tenths
    of the interactions train; a quarter of the items is cold. Nothing can be learnt from the features.
    """
    draws = torch.Generator(device).manual_seed(0)
    n_users, n_items, n_pairs = size.users, size.items, round(0.8 * size.interactions)
    n_warm = round((1 - COLD) * n_items)
    activity = (
        torch.randn(n_users, generator=draws, device=device, dtype=torch.float64).mul(1.2).exp().cumsum(0)
    )
    popularity = (torch.arange(n_warm, device=device, dtype=torch.float64) + 10).reciprocal().cumsum(0)

    def sampled(reach: Tensor, count: int) -> Tensor:
        place = torch.rand(count, generator=draws, device=device, dtype=torch.float64) * reach[-1]
        return torch.searchsorted(reach, place).clamp_max(len(reach) - 1)

    # Every user and every warm item has a pair; the rest is drawn until there are enough different ones.
    cells = torch.cat(
        [
            torch.arange(n_users, device=device) * n_items + sampled(popularity, n_users),
            sampled(activity, n_warm) * n_items + torch.arange(n_warm, device=device),
        ]
    ).unique()
    while len(cells) < n_pairs:
        count = n_pairs - len(cells)
        new = sampled(activity, count) * n_items + sampled(popularity, count)
        cells = torch.cat([cells, new]).unique()
    train = Interactions(user=cells // n_items, item=cells % n_items, n_users=n_users, n_items=n_items)
    width = sum(size.matrices.values()) + (VOCABULARY if size.words else 0)
    features = torch.randn(n_items, width, generator=draws, device=device)
    return normalize(features, dim=1, out=features), training_data(train, device)
