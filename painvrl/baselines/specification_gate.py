"""The specification gate: can leaving features out pay under this shift at all?

If the features that are best in distribution are also best out of it, no mask can help, whatever the method.
So a content-only ridge regression is fitted on many subsets of the modalities, and asked for both. Their
correlation over the subsets, and the regret of choosing the subset by IID alone, say what a mask could gain.
The regret is cross-fitted: the OOD-best subset is chosen on half of the OOD items and scored on the other
half, in turn. Its interval resamples users, items and seeds.

The gate reads ``ood_valid`` and sets nothing.

Shape letters: ``S`` subsets, ``P`` positives of a part, ``U`` users, ``I`` items, ``F`` features, ``D``
draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from painvrl.core.errors import ConfigError
from painvrl.core.rng import generator
from painvrl.core.tables import Block, Result, TextTable
from painvrl.data.draws import draw
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared, prepare
from painvrl.stats.intervals import Interval, percentiles

CUTOFF = 20
SUBSETS = 30
"""All subsets of the groups where there are no more, else so many random ones."""
RIDGES = (1.0, 10.0, 100.0)
"""Of each subset the one that is best IID counts."""
COLUMN_GROUPS = 8
"""Groups of columns that stand in for modalities where there is a single one."""
DRAWS = 1000
WIDE = 0.1
"""A regret that may be above this share of what it is lost from is not shown to be none."""
MAX_CELLS = 20_000_000
"""Users times items that are scored; beyond it a random subset of the users."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Gate(Result):
    """What the gate found.

    Attributes:
        subsets: names of the modalities in each.
        iid, ood: ``[S]`` mean NDCG@20 of each, over the seeds.
        correlation: of the two over the subsets.
        regret: OOD NDCG@20 that a choice of the subset by IID loses, cross-fitted.
        chosen_by_iid: place of the subset with the best IID mean.
        cold: IID is asked for held-out train items, because the OOD items have no train interaction.
        left_out: what of the first seed's split is not asked, a sentence each.
    """

    subsets: tuple[tuple[str, ...], ...]
    iid: Array
    ood: Array
    correlation: float
    regret: Interval
    chosen_by_iid: int
    cold: bool
    left_out: tuple[str, ...] = ()

    @property
    def can_pay(self) -> bool:
        """Whether the regret's interval lies above 0."""
        return self.regret.low > 0

    @property
    def verdict(self) -> str:
        """One sentence."""
        size = f"regret of the choice by IID {self.regret:+.4f}, correlation {self.correlation:+.2f}"
        if self.can_pay:
            return f"a mask can pay: another subset than the one that is best IID is better OOD ({size})"
        chosen = float(self.ood[self.chosen_by_iid])
        if self.regret.high > WIDE * chosen:
            return (
                f"too few data to say whether a mask can pay: the regret may be {self.regret.high:.4f}, "
                f"over {WIDE:.0%} of the OOD {chosen:.4f} of that choice ({size})"
            )
        return f"no sign that a mask can pay: what is best IID is not shown to lose OOD ({size})"

    def blocks(self) -> Iterator[Block]:
        """A row a subset, the best IID first, and the verdict."""
        order = sorted(range(len(self.subsets)), key=lambda place: -self.iid[place])
        yield TextTable.of(
            {
                "features": ", ".join(self.subsets[place]),
                f"IID NDCG@{CUTOFF}": f"{self.iid[place]:.4f}",
                f"OOD NDCG@{CUTOFF}": f"{self.ood[place]:.4f}",
            }
            for place in order
        )
        reads = "held-out train items and ood_valid" if self.cold else "iid_valid and ood_valid"
        yield f"specification gate: {self.verdict}; it reads {reads}, and sets nothing"
        yield "it ranks by a content-only ridge, otherwise than the study: not comparable with its NDCG"
        yield from (f"left out by the gate: {one}" for one in self.left_out)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        rows = zip(self.subsets, self.iid.tolist(), self.ood.tolist(), strict=True)
        return {
            "can_pay": self.can_pay,
            "verdict": self.verdict,
            "correlation": None if np.isnan(self.correlation) else self.correlation,
            "left_out": list(self.left_out),
            "regret": {"mean": self.regret.mean, "low": self.regret.low, "high": self.regret.high},
            "iid_is_of_held_out_items": self.cold,
            "reads": ["train", "ood_valid"] if self.cold else ["train", "iid_valid", "ood_valid"],
            "subsets": [{"features": list(names), "iid": iid, "ood": ood} for names, iid, ood in rows],
        }


@dataclass(frozen=True, kw_only=True)
class _Gains:
    """What each positive of a part adds to the mean NDCG: ``gain`` ``[S, P]``, and whose it is."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    gain: Array


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The gains of the IID and the OOD positives; see :class:`Gate` for the others."""

    iid: _Gains
    ood: _Gains
    cold: bool
    left_out: tuple[str, ...]


def specification_gate(seeds: Sequence[Prepared], *, seed: int = 0, draws: int = DRAWS) -> Gate:
    """Ask the gate about one configuration of data and split.

    Args:
        seeds: prepared under one seed each.
        seed: of subsets, held-out items, halves and draws.
        draws: of the bootstrap.

    Raises:
        ConfigError: the items have a single feature.
    """
    # By seed: smooth columns span the train items, and how many there are depends on these.
    groups = [_groups(_columns_of(prepared.widths), seed) for prepared in seeds]
    subsets = _subsets(list(groups[0]), seed)
    rng = np.random.default_rng([seed, 1])
    found = [_gains(prepared, own, subsets, seed) for prepared, own in zip(seeds, groups, strict=True)]
    iid = np.mean([_means(one.iid, 1, 1) for one in found], axis=0)
    ood = np.mean([_means(one.ood, 1, 1) for one in found], axis=0)
    of_seeds = np.array([_regrets(one.iid, one.ood, draws, rng) for one in found])  # [seeds, 1 + D]
    chosen = rng.integers(len(seeds), size=(draws, len(seeds)))
    drawn = of_seeds[:, 1:][chosen, np.arange(draws)[:, None]].mean(axis=1)
    low, high = percentiles(drawn)
    spread = iid.std() > 0 and ood.std() > 0
    return Gate(
        subsets=subsets,
        iid=iid,
        ood=ood,
        correlation=float(np.corrcoef(iid, ood)[0, 1]) if spread else float("nan"),
        regret=Interval(mean=float(of_seeds[:, 0].mean()), low=float(low), high=float(high)),
        chosen_by_iid=int(iid.argmax()),
        cold=found[0].cold,
        left_out=found[0].left_out,
    )


def under_seeds(config: TrainConfig, count: int, cache_dir: Path) -> list[Prepared]:
    """The data of ``config`` under its seed and those after it."""
    seeds = range(config.seed, config.seed + count)
    device = torch.device("cpu")
    return [
        prepare(config.model_copy(update={"seed": seed}), cache_dir=cache_dir, device=device)
        for seed in seeds
    ]


def _columns_of(widths: Mapping[str, int]) -> dict[str, Tensor]:
    """The columns of each modality."""
    ends = np.cumsum([0, *widths.values()])
    return {name: torch.arange(ends[i], ends[i + 1]) for i, name in enumerate(widths)}


def _groups(modalities: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Columns of each modality, or of random groups where there is a single modality."""
    if len(modalities) > 1:
        return dict(modalities)
    columns = torch.cat([torch.arange(0), *modalities.values()])
    if len(columns) < 2:
        raise ConfigError("the gate needs at least 2 features", key="features", value=len(columns))
    count = min(COLUMN_GROUPS, len(columns))
    order = columns[torch.randperm(len(columns), generator=generator(seed, "gate", "columns"))]
    return {f"columns {i + 1}/{count}": part for i, part in enumerate(order.tensor_split(count))}


def _subsets(names: list[str], seed: int) -> tuple[tuple[str, ...], ...]:
    """All subsets but the empty one, or :data:`SUBSETS` random ones with all features among them."""
    if 2 ** len(names) - 1 <= SUBSETS:
        sizes = range(len(names), 0, -1)
        return tuple(itertools.chain.from_iterable(itertools.combinations(names, size) for size in sizes))
    rng = np.random.default_rng([seed, 0])
    found = {tuple(names): None}
    while len(found) < SUBSETS:
        taken = rng.random(len(names)) < rng.uniform(0.2, 0.9)
        if taken.any():
            found[tuple(name for name, one in zip(names, taken, strict=True) if one)] = None
    return tuple(found)


def _gains(
    prepared: Prepared, groups: Mapping[str, Tensor], subsets: Sequence[tuple[str, ...]], seed: int
) -> _Found:
    """What one seed's split says."""
    left_out: list[str] = []
    train, part = prepared.train, prepared.split.ood_valid
    warm = train.item_degree() > 0
    cold = float(warm[part.interactions.item].double().mean()) < 0.5
    if cold:
        # As many items as OOD has, or a quarter: ranked among themselves, as the OOD items are.
        new = part.candidates & ~warm
        size = max(2, min(int(new.sum()), int(warm.sum()) // 4))
        held = draw(warm, size, generator=generator(seed, "gate", "items"))
        fitted = train.select(~held[train.item])
        iid = Part(name="iid", interactions=train.select(held[train.item]), candidates=held)
        rows = part.interactions
        ood = Part(name="ood", interactions=rows.select(new[rows.item]), candidates=new)
        if warm_rows := len(rows) - len(ood.interactions):
            left_out.append(f"{warm_rows:,} of {len(rows):,} rows of ood_valid, of items that train has")
    else:
        fitted, iid, ood = train, prepared.split.iid_valid, part
    users, said = _users(fitted, iid, ood, seed)
    left_out += said
    features = prepared.features.cpu().double()
    columns = [torch.cat([groups[name] for name in names]) for names in subsets]
    both: tuple[list[Array], list[Array]] = ([], [])
    asked = [Asked(one, fitted, users, seed) for one in (iid, ood)]
    for one, named in zip(asked, ("the IID part", "ood_valid"), strict=True):
        if not len(one.user):
            rule = f"the gate asks users that it has fitted, and {named} has none of them"
            raise ConfigError(rule, key="split.protocol", value=prepared.split.statistics.protocol)
    for each in columns:
        scored = _ridges(features[:, each], fitted, users)
        tried = [[one.gains(scores) for one in asked] for scores in scored]
        best = max(tried, key=lambda gains: float(gains[0].sum()))
        for kept, gain in zip(both, best, strict=True):
            kept.append(gain)
    of_iid, of_ood = (
        _Gains(user=one.user, item=one.item, gain=np.stack(gains))
        for one, gains in zip(asked, both, strict=True)
    )
    return _Found(iid=of_iid, ood=of_ood, cold=cold, left_out=tuple(left_out))


def _users(fitted: Interactions, iid: Part, ood: Part, seed: int) -> tuple[Tensor, list[str]]:
    """Users who are asked for something and are known, as many as may be scored; ascending.

    Also who is left out, a sentence each.
    """
    left_out = []
    asked = iid.interactions.user_degree() + ood.interactions.user_degree()
    known = (asked > 0) & (fitted.user_degree() > 0)
    if unknown := int((asked > 0).sum()) - int(known.sum()):
        left_out.append(f"{unknown:,} of {int((asked > 0).sum()):,} users, who have no row that is fitted")
    most = max(1, MAX_CELLS // fitted.n_items)
    if (count := int(known.sum())) > most:
        left_out.append(f"{count - most:,} of {count:,} users at random: all would be too many scores")
        known = draw(known, most, generator=generator(seed, "gate", "users"))
    return known.nonzero(as_tuple=True)[0], left_out


def _ridges(features: Tensor, fitted: Interactions, users: Tensor) -> list[Tensor]:
    """``[U, I]`` scores of each of :data:`RIDGES`; see :mod:`painvrl.baselines.ridge`."""
    warm = (fitted.item_degree() > 0).nonzero(as_tuple=True)[0]
    left, size, right = torch.linalg.svd(features[warm], full_matrices=False)
    of_items = torch.zeros(features.shape[0], len(size), dtype=features.dtype)
    of_items[warm] = left
    taken = torch.zeros(fitted.n_users, len(size), dtype=features.dtype)
    taken.index_add_(0, fitted.user, of_items[fitted.item])
    items = features @ right.T
    return [(taken[users] * (size / (size.square() + ridge))) @ items.T for ridge in RIDGES]


class Asked:
    """Ranks a part's positives among its candidates without what a user took in training."""

    def __init__(self, part: Part, fitted: Interactions, users: Tensor, seed: int) -> None:
        place = torch.full((fitted.n_users,), -1)
        place[users] = torch.arange(len(users))
        rows = part.interactions.select(place[part.interactions.user] >= 0)
        self._candidates = part.candidates.nonzero(as_tuple=True)[0]
        column = torch.full((fitted.n_items,), -1)
        column[self._candidates] = torch.arange(len(self._candidates))
        self._row, self._column = place[rows.user], column[rows.item]
        hidden = torch.zeros(len(users), len(self._candidates), dtype=torch.bool)
        for seen in (fitted, rows):  # a user's own positives do not compete with each other
            known = seen.select((place[seen.user] >= 0) & (column[seen.item] >= 0))
            hidden[place[known.user], column[known.item]] = True
        self._hidden = hidden
        count = torch.bincount(self._row, minlength=len(users))
        ideal = (1 / torch.log2(torch.arange(CUTOFF, dtype=torch.float64) + 2)).cumsum(0)
        self._ideal = ideal[count[self._row].clamp(1, CUTOFF) - 1]
        self.user: NDArray[np.int64] = rows.user.numpy()
        self.item: NDArray[np.int64] = rows.item.numpy()
        self._order = torch.argsort(self._row, stable=True)
        # Items with equal features have equal scores: a lot decides between them, the same for all subsets.
        lot = torch.rand(fitted.n_items, generator=generator(seed, "gate", "ties"), dtype=torch.float32)
        self._lot = lot[self._candidates]

    def gains(self, scores: Tensor) -> Array:
        """``[P]``: what each positive adds to its user's NDCG."""
        scores = scores[:, self._candidates].float()
        scores = scores + 1e-6 * scores.abs().max().clamp_min(1e-12) * self._lot
        own = scores[self._row, self._column]
        others = scores.masked_fill_(self._hidden, -torch.inf)
        top = others.topk(min(CUTOFF, others.shape[1]), dim=1).values
        above = (top[self._row] > own[:, None]).sum(dim=1)  # exact below the cut-off
        # A user's better positives stand before it, too.
        better = torch.zeros_like(above)
        by_user = self._order[torch.argsort(-own[self._order], stable=True)]
        by_user = by_user[torch.argsort(self._row[by_user], stable=True)]
        start = torch.cat([torch.zeros(1, dtype=torch.long), torch.bincount(self._row).cumsum(0)])
        better[by_user] = torch.arange(len(by_user)) - start[self._row[by_user]]
        rank = above + better  # from 0
        gain = torch.where(rank < CUTOFF, 1 / torch.log2(rank.double() + 2), 0.0)
        found: Array = (gain / self._ideal).numpy()
        return found


def _means(gains: _Gains, of_users: Array | float, of_items: Array | float) -> Array:
    """``[..., S]``: the mean NDCG of each subset, with weights of users and items ``[..., P]`` or 1."""
    users, place = np.unique(gains.user, return_inverse=True)
    weight = np.broadcast_to(np.asarray(of_users) * of_items, (*np.shape(of_users)[:-1], len(place)))
    if np.ndim(of_users) == 0:
        mean: Array = gains.gain.sum(axis=1) / len(users)
        return mean
    first = np.zeros(len(users), dtype=np.int64)
    first[place] = np.arange(len(place))
    total = np.asarray(of_users)[..., first].sum(axis=-1, keepdims=True)
    found: Array = weight @ gains.gain.T / np.maximum(total, 1e-12)
    return found


def _regrets(iid: _Gains, ood: _Gains, draws: int, rng: np.random.Generator) -> Array:
    """``[1 + D]``: the cross-fitted regret as it is, then under draws of users and items."""
    n_users = 1 + max(iid.user.max(), ood.user.max())
    n_items = 1 + max(iid.item.max(), ood.item.max())
    # A Poisson weight is a bootstrap's count; row 0 is the data as they are.
    users = np.concatenate([np.ones((1, n_users)), rng.poisson(1.0, (draws, n_users))])
    items = np.concatenate([np.ones((1, n_items)), rng.poisson(1.0, (draws, n_items))])
    by_iid = _means(iid, users[:, iid.user], items[:, iid.item]).argmax(axis=1)
    half = rng.permutation(n_items) % 2
    sides = [
        _means(ood, users[:, ood.user], items[:, ood.item] * (half[ood.item] == side)) for side in (0, 1)
    ]
    row = np.arange(1 + draws)
    regrets = [
        scored[row, chosen.argmax(axis=1)] - scored[row, by_iid] for chosen, scored in (sides, sides[::-1])
    ]
    found: Array = regrets[0] + regrets[1]  # each half has half of the gains
    return found
