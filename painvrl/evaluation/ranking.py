"""Full ranking: score every candidate for every user, hide what was seen, find the positives' ranks.

One pass serves every part and every cut-off. A positive's rank is one more than the number of visible
items with a greater score: the better positives of its part, counted in the user's sorted list of them,
and the better *negatives*, counted in the top of all items that are neither hidden nor a positive of
any part. The negatives are the same for every part with the same candidates, so their top is taken once.

Shape letters: ``B`` users of a block, ``C`` candidates of any part, ``P`` parts, ``W`` the most positives
of a block's user in one part, ``R`` ranks (the largest cut-off), ``D`` length of a score vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from painvrl.core import interrupts
from painvrl.data.dataset import Columns
from painvrl.data.interactions import Interactions, among, padded
from painvrl.data.splits import Part
from painvrl.evaluation import metrics
from painvrl.evaluation.metrics import NO_ITEM, Metric, Shown
from painvrl.evaluation.protocol import EvaluationConfig

PADDING = -1


@dataclass(frozen=True, kw_only=True)
class _Block:
    """A few users, with what the device needs to rank and judge them (columns index candidates)."""

    users: Tensor  # [B]
    hidden: Tensor  # [H] cells ``row * C + column`` of all that is no negative
    positives: tuple[Tensor, ...]  # for each part, [B, W] columns that count as hits, then PADDING


@dataclass(frozen=True, kw_only=True)
class PlannedPart:
    """What is judged of a part: ``users`` with positives, their place in the pass, their ``positives``."""

    name: str
    users: Tensor  # [U] ascending, on the CPU
    rows: Tensor  # [U] rows of the plan's blocks, one after the other, on the CPU
    positives: Tensor  # [U] on the CPU
    candidates: int  # which of the plan's sets of candidates
    taken: Interactions  # all positives, on the CPU


@dataclass(frozen=True, kw_only=True)
class RankingPlan:
    """Everything about scoring parts that does not depend on the model; made once a split.

    Attributes:
        parts: in the order asked for.
        candidates: ``[C]`` item indices, candidates of at least one part.
        columns: for each distinct set of candidates, its ``[c]`` columns of the scores; empty for all.
        blocks: the users in the order in which they are ranked.
        ks: cut-offs.
        measured: the metrics.
        data: what is known of users and items.
        means: names of metrics that are the mean over the parts listed, every part weighing the same.
    """

    parts: tuple[PlannedPart, ...]
    candidates: Tensor
    columns: tuple[Tensor, ...]
    blocks: tuple[_Block, ...]
    ks: tuple[int, ...]
    measured: tuple[Metric, ...]
    data: Columns
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What the metrics are called before their slash."""
        return (*(part.name for part in self.parts), *self.means)


def plan_ranking(
    parts: Sequence[Part],
    hidden: Iterable[Interactions],
    config: EvaluationConfig,
    device: torch.device,
    data: Columns | None = None,
) -> RankingPlan:
    """Prepare the ranking of ``parts``, in one pass.

    Args:
        parts: their interactions are the positives, their candidates are ranked. A positive of one part
            is hidden in all the others, so that IID and OOD positives do not compete for the same
            places (method, "Evaluation").
        hidden: interactions whose items are never recommended to their user: the training part.
        config: cut-offs, metrics and the size of a block.
        device: where the ranking will run.
        data: what is known of users and items, for metrics of groups.

    Raises:
        ConfigError: a metric has no value on such data.
    """
    data = data or Columns()
    for metric in config.metrics:
        metric.check(data)
    n_users, n_items = parts[0].interactions.n_users, parts[0].interactions.n_items
    sets, member = torch.stack([part.candidates.cpu() for part in parts]).unique(dim=0, return_inverse=True)
    members = member.tolist()
    union = sets.any(dim=0)
    candidates = union.nonzero(as_tuple=True)[0]
    column = union.long().cumsum(0) - 1
    keys = [part.interactions.cells().cpu().unique() for part in parts]
    listed = [each.cells().cpu() for each in hidden]
    concealed = torch.cat([torch.empty(0, dtype=torch.long), *listed]).sort().values
    counts = [torch.bincount(part.interactions.user.cpu(), minlength=n_users) for part in parts]

    # Users with about as many positives stand together, so that little of [B, W] is padding.
    most = torch.stack(counts).amax(dim=0)
    order = most.argsort(stable=True)
    order = order[most[order] > 0]
    place = torch.full((n_users,), -1)
    place[order] = torch.arange(len(order))

    def by_place(key: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Place of the user and column of the item, in order of the place; ``visible``: [I] bool."""
        user, item = key // n_items, key % n_items
        kept = (place[user] >= 0) & visible[item]
        at, to = place[user[kept]], column[item[kept]]
        at, rank = at.sort(stable=True)
        return at, to[rank]

    judged = []
    for index, key in enumerate(keys):
        others = [concealed, *(other for i, other in enumerate(keys) if i != index)]
        taken = torch.stack([among(key, other) for other in others]).any(dim=0)
        judged.append(by_place(key[~taken], sets[members[index]]))
    masked = by_place(torch.cat([concealed, *keys]).unique(), union)

    size = max(1, config.block_cells // max(len(candidates), *config.ks))
    blocks = []
    for start in range(0, len(order), size):
        users = order[start : start + size]
        ends = torch.tensor([start, start + len(users)])
        first, last = torch.searchsorted(masked[0], ends).tolist()
        cells = (masked[0][first:last] - start) * len(candidates) + masked[1][first:last]
        positives = []
        for at, to in judged:
            first, last = torch.searchsorted(at, ends).tolist()
            positives.append(padded(at[first:last] - start, to[first:last], len(users), PADDING).to(device))
        blocks.append(_Block(users=users.to(device), hidden=cells.to(device), positives=tuple(positives)))
    planned = []
    for part, count, member in zip(parts, counts, members, strict=True):
        users = count.nonzero(as_tuple=True)[0]
        planned.append(
            PlannedPart(
                name=part.name,
                users=users,
                rows=place[users],
                positives=count[users],
                candidates=member,
                taken=part.interactions.to(torch.device("cpu")),
            )
        )
    columns = [each[candidates].nonzero(as_tuple=True)[0] for each in sets]
    return RankingPlan(
        parts=tuple(planned),
        candidates=candidates.to(device),
        columns=tuple(c[: 0 if len(c) == len(candidates) else len(c)].to(device) for c in columns),
        blocks=tuple(blocks),
        ks=config.ks,
        measured=config.metrics,
        data=data,
    )


BlockScores = Callable[[Tensor], Tensor]
"""From the users of a block ``[B]`` to their scores of the candidates ``[B, C]``, which ranking may
write over."""


class Scorer(Protocol):
    """What can be ranked: scores of a few users at a time, so that no table of all pairs is ever made."""

    def among(self, candidates: Tensor) -> BlockScores:
        """The scores of the items ``candidates`` ``[C]``, on the device where they lie."""


class Scorers(Protocol):
    """Several things that can be ranked in one pass, since their scores have much in common."""

    def __len__(self) -> int: ...

    def among(self, candidates: Tensor) -> Callable[[Tensor], Iterator[Tensor]]:
        """As :meth:`Scorer.among`, but the scores of each come one after the other."""


@dataclass(frozen=True)
class _OneScorer:
    """A scorer as the only one of a pass."""

    scorer: Scorer

    def __len__(self) -> int:
        return 1

    def among(self, candidates: Tensor) -> Callable[[Tensor], Iterator[Tensor]]:
        scores_of = self.scorer.among(candidates)
        return lambda users: iter((scores_of(users),))


@dataclass(frozen=True)
class DotProducts:
    """Scores ``users @ items.T`` of vectors ``[U, D]`` and ``[I, D]``."""

    users: Tensor
    items: Tensor

    def among(self, candidates: Tensor) -> BlockScores:
        """See :class:`Scorer`."""
        everything = len(candidates) == len(self.items)  # they ascend, so no copy is needed
        items = self.items if everything else self.items[candidates]
        return lambda users: self.users[users] @ items.T


def rank_block(
    scores: Tensor,
    hidden: Tensor,
    positives: Sequence[Tensor],
    columns: Sequence[Tensor],
    members: Sequence[int],
    depth: int,
) -> list[Tensor]:
    """For each part, whether each of the top ranks of each user is a positive, ``[B, R]`` bool.

    A positive that ties with a negative stands behind it, so that a model that scores everything
    alike gains nothing.

    Args:
        scores: ``[B, C]``; written over.
        hidden: ``[H]``, as in the block.
        positives: as in the block.
        columns: for each set of candidates, its columns; empty for all.
        members: for each part, its set.
        depth: ``R``.
    """
    found = [
        scores.gather(1, where.clamp_min(0)).masked_fill_(where == PADDING, -torch.inf) for where in positives
    ]
    scores.view(-1).index_fill_(0, hidden, -torch.inf)
    # Negated: searchsorted wants ascending rows.
    tops = [-top_values(scores[:, c] if len(c) else scores, depth) for c in columns]
    hits = []
    for unsorted, member in zip(found, members, strict=True):
        own = unsorted.sort(dim=1, descending=True).values
        better = torch.searchsorted(tops[member], -own, right=True)
        rank = better + torch.arange(own.shape[1], device=own.device)
        # Ranks too low to be seen, and padding, fall into a column of their own.
        rank = torch.where(own > -torch.inf, rank, depth).clamp_max(depth)
        table = torch.zeros(own.shape[0], depth + 1, dtype=torch.bool, device=own.device)
        hits.append(table.scatter_(1, rank, value=True)[:, :depth])
    return hits


def top_values(scores: Tensor, depth: int) -> Tensor:
    """The ``depth`` greatest values of each row in falling order, ``[B, min(depth, C)]``.

    In two steps where that is less work: the ``depth`` groups of columns with the greatest maxima hold
    the ``depth`` greatest values.
    """
    width = scores.shape[1]
    members = int((width / depth) ** 0.5)  # of a group; makes both selections equally long
    if members < MIN_MEMBERS:
        return scores.topk(min(depth, width), dim=1).values
    groups = width // members
    # A group's columns lie ``groups`` apart: its maxima are those of whole rows, which vectorises.
    folded = scores[:, : groups * members].unflatten(1, (members, groups))
    best = folded.amax(dim=1).topk(depth, dim=1, sorted=False).indices
    inside = folded.gather(2, best[:, None, :].expand(-1, members, -1)).flatten(1)
    return torch.cat([inside, scores[:, groups * members :]], dim=1).topk(depth, dim=1).values


MIN_MEMBERS = 3  # below, one selection over the whole row is as fast


def listed(hits: Tensor, negatives: Tensor, positives: Tensor) -> Tensor:
    """``[B, R]`` what stands at each rank, or ``PADDING``.

    Args:
        hits: ``[B, R]`` as of :func:`rank_block`.
        negatives: ``[B, R']`` the best ones in falling order, ``PADDING`` after the last.
        positives: ``[B, W]`` in falling order, ``PADDING`` after the last.
    """
    better = hits.long().cumsum(1)  # positives up to and with each rank
    rank = torch.arange(hits.shape[1], device=hits.device)
    below = pad(negatives, (0, max(0, hits.shape[1] - negatives.shape[1])), value=PADDING)
    positive = pad(positives, (0, 1), value=PADDING).gather(1, (better - 1).clamp_min(0))
    return torch.where(hits, positive, below.gather(1, (rank - better).clamp_min(0)))


Lists = tuple[Tensor, Tensor]
"""A part's top ranks, a row for each user ranked: hits ``[N, R]`` bool, and the items ``[N, R]`` if some
metric reads them, else ``[N, 0]``."""


def top_hits(plan: RankingPlan, scorer: Scorer) -> tuple[Tensor, ...]:
    """For each part, whether each of the top ranks is a positive, ``[N, R]``: a row for each user ranked.

    A hidden item never counts, even where a user has fewer candidates left than ranks. A block makes
    no tensor larger than its ``B * C`` scores.
    """
    return tuple(hits for hits, _ in _lists_of_each(plan, _OneScorer(scorer))[0])


def _lists_of_each(plan: RankingPlan, scorers: Scorers) -> list[list[Lists]]:
    """The lists of each part by each of the scorers, in one pass over the users."""
    depth = max(plan.ks)
    reads_items = any(metric.reads_items for metric in plan.measured)
    scores_of = scorers.among(plan.candidates)
    no_users = torch.zeros(0, depth, dtype=torch.bool, device=plan.candidates.device)
    found = [
        [[(no_users, no_users[:, : depth * reads_items].long())] for _ in plan.parts]
        for _ in range(len(scorers))
    ]
    for block in plan.blocks:
        interrupts.check()
        for of_one, scores in zip(found, scores_of(block.users), strict=True):
            ranked = _ranked(plan, block, scores, depth, reads_items=reads_items)
            for of_part, lists in zip(of_one, ranked, strict=True):
                of_part.append(lists)
    return [
        [
            (torch.cat([hits for hits, _ in lists]), torch.cat([items for _, items in lists]))
            for lists in of_one
        ]
        for of_one in found
    ]


def _ranked(
    plan: RankingPlan, block: _Block, scores: Tensor, depth: int, *, reads_items: bool
) -> list[Lists]:
    """The lists of a block's users, one for each part; ``scores`` ``[B, C]`` are written over."""
    members = [part.candidates for part in plan.parts]
    best = [_in_order(scores, where) for where in block.positives] if reads_items else []
    hits = rank_block(scores, block.hidden, block.positives, plan.columns, members, depth)
    if not reads_items:
        return [(each, each[:, :0].long()) for each in hits]
    negatives = [_top_columns(scores, columns, depth) for columns in plan.columns]
    return [
        (each, _named(listed(each, negatives[member], positives), plan.candidates))
        for each, positives, member in zip(hits, best, members, strict=True)
    ]


def _in_order(scores: Tensor, where: Tensor) -> Tensor:
    """``[B, W]`` the columns ``where``, the one with the greatest score first, ``PADDING`` last."""
    own = scores.gather(1, where.clamp_min(0)).masked_fill_(where == PADDING, -torch.inf)
    return where.gather(1, own.argsort(dim=1, descending=True, stable=True))


def _top_columns(scores: Tensor, columns: Tensor, depth: int) -> Tensor:
    """``[B, R']`` the best of ``columns`` (all if empty) in falling order; ``PADDING`` where hidden."""
    among_all = scores[:, columns] if len(columns) else scores
    top = among_all.topk(min(depth, among_all.shape[1]), dim=1)
    place = columns[top.indices] if len(columns) else top.indices
    return place.masked_fill(top.values == -torch.inf, PADDING)


def _named(columns: Tensor, candidates: Tensor) -> Tensor:
    """The items of columns, ``NO_ITEM`` where there is none."""
    return candidates[columns.clamp_min(0)].masked_fill_(columns == PADDING, NO_ITEM)


def some_users(plan: RankingPlan, every: int) -> RankingPlan:
    """The plan for one user in ``every``, of those with few positives as of those with many."""
    if every <= 1:
        return plan
    sizes = [len(block.users) for block in plan.blocks]
    chosen = torch.arange(sum(sizes)) % every == every // 2  # [N] by row of the whole plan
    place = chosen.long().cumsum(0) - 1
    parts = []
    for part in plan.parts:
        mine = chosen[part.rows]
        rows = place[part.rows[mine]]
        parts.append(replace(part, users=part.users[mine], rows=rows, positives=part.positives[mine]))
    width = len(plan.candidates)
    blocks = []
    for block, member in zip(plan.blocks, chosen.split(sizes), strict=True):
        kept = member.to(block.users.device)
        row, column = block.hidden // width, block.hidden % width
        mine = kept[row]
        hidden = (kept.long().cumsum(0) - 1)[row[mine]] * width + column[mine]
        positives = tuple(each[kept] for each in block.positives)
        blocks.append(_Block(users=block.users[kept], hidden=hidden, positives=positives))
    return replace(plan, parts=tuple(parts), blocks=tuple(blocks))


@dataclass(frozen=True, kw_only=True)
class JudgedUsers:
    """What the users of a part have got.

    Attributes:
        users: ``[U]`` ascending.
        values: ``[U, K]`` float64 of each metric of users.
        whole: ``[K]`` float64 of each list-wise metric.
    """

    users: Tensor
    values: Mapping[str, Tensor]
    whole: Mapping[str, Tensor] = field(default_factory=dict)


def evaluate_users(plan: RankingPlan, scorer: Scorer) -> dict[str, JudgedUsers]:
    """Every metric at every cut-off of every user, by the name of the part; on the CPU.

    Only hits leave the device; the metrics' float64 sums are made on the CPU.
    """
    return next(judged_users(plan, _OneScorer(scorer)))


def judged_users(plan: RankingPlan, scorers: Scorers) -> Iterator[dict[str, JudgedUsers]]:
    """:func:`evaluate_users` of each of the scorers, which one pass has ranked."""
    for found in _lists_of_each(plan, scorers):
        yield {part.name: _judged(plan, part, lists) for part, lists in zip(plan.parts, found, strict=True)}


def _judged(plan: RankingPlan, part: PlannedPart, lists: Lists) -> JudgedUsers:
    hits, items = lists
    columns = plan.columns[part.candidates]
    shown = Shown(
        hits=hits.cpu()[part.rows],
        positives=part.positives,
        ks=plan.ks,
        items=items.cpu()[part.rows] if any(metric.reads_items for metric in plan.measured) else None,
        users=part.users,
        taken=part.taken,
        candidates=(plan.candidates[columns] if len(columns) else plan.candidates).cpu(),
        columns=plan.data,
    )
    values = {metric.name: (metric, metric.at(shown)) for metric in plan.measured}
    return JudgedUsers(
        users=part.users,
        values={name: value for name, (metric, value) in values.items() if metric.is_of_users},
        whole={name: value for name, (metric, value) in values.items() if not metric.is_of_users},
    )


def evaluate(plan: RankingPlan, user_vectors: Tensor, item_vectors: Tensor) -> dict[str, float]:
    """:func:`evaluate_scorer` of the scores ``user_vectors @ item_vectors.T`` (``[U, D]``, ``[I, D]``)."""
    return evaluate_scorer(plan, DotProducts(user_vectors, item_vectors))


def evaluate_scorer(plan: RankingPlan, scorer: Scorer) -> dict[str, float]:
    """The mean over users of every metric at every cut-off, as ``{"ood/recall_at_20": ...}``."""
    return mean_over_users(plan, evaluate_users(plan, scorer))


def evaluate_each(plan: RankingPlan, scorers: Scorers) -> tuple[dict[str, float], ...]:
    """:func:`evaluate_scorer` of each of the scorers, in one pass."""
    return tuple(mean_over_users(plan, judged) for judged in judged_users(plan, scorers))


def mean_over_users(plan: RankingPlan, judged: Mapping[str, JudgedUsers]) -> dict[str, float]:
    """What :func:`evaluate_users` has found, as :func:`evaluate_scorer` tells it."""
    values = {
        metrics.name(part, metric, k): value
        for part, each in judged.items()
        for metric, of_ks in (
            *((metric, users.mean(dim=0)) for metric, users in each.values.items()),
            *each.whole.items(),
        )
        for k, value in zip(plan.ks, of_ks.tolist(), strict=True)
    }
    for mean, parts in plan.means.items():
        for metric in plan.measured:
            for k in plan.ks:
                of_parts = [values[metrics.name(part, metric.name, k)] for part in parts]
                values[metrics.name(mean, metric.name, k)] = sum(of_parts) / len(of_parts)
    return values
