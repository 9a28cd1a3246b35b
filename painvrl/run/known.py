"""Known environments before anything is trained: what they are, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping

from painvrl.core.errors import ConfigError, listing
from painvrl.data.dataset import BATCH, Dataset
from painvrl.data.grouping import KnownGroups, LeftOutGroup, known_groups, left_out_group
from painvrl.data.interactions import Interactions
from painvrl.data.splits import Split
from painvrl.evaluation.metrics import split_name
from painvrl.run.config import TrainConfig

CANDIDATES = 4
"""Times as many candidates as a list is long; with fewer, chance finds more than a quarter."""


def reads_groups(config: TrainConfig) -> bool:
    """Whether anything in a run of ``config`` depends on ``environments.column``."""
    environments = config.environments
    identified = config.mask.source == "learned" and "column" in (environments.assignment, environments.start)
    return identified or config.backbone.reads_environments or config.evaluation.loeo


def groups_of(config: TrainConfig, dataset: Dataset, train: Interactions) -> KnownGroups:
    """The groups that ``environments.column`` makes of ``train``, none of them too small to be read.

    Raises:
        ConfigError: they do not fit the data, or one is below ``environments.min_share``. It may be, where an
            identification only starts from it.
    """
    groups = known_groups(dataset, train, config.environments.column, config.seed)
    known = config.environments.assignment == "column"
    if reads_groups(config) and (known or config.evaluation.loeo):
        _require_sizes(config, groups, len(train))
    return groups


def with_known_groups(config: TrainConfig, dataset: Dataset, split: Split) -> Split:
    """The split, whose notes say what the groups are, and whose findings what looks wrong with them.

    Raises:
        ConfigError: as :func:`groups_of`, or nobody can be asked for one that is left out.
    """
    try:
        groups = groups_of(config, dataset, split.train)
    except ConfigError as error:
        raise _of_batches(error, config, split) from None
    notes = [f"environments.column: {groups.said()}"]
    if groups.left_open:
        notes.append(f"environments.column: in no group, and left open: {groups.left_open:,}")
    findings = []
    if not reads_groups(config):
        findings.append("environments.column: nothing in this configuration reads it")
    if groups.empty:
        findings.append(f"environments.column: no train interaction is in {listing(groups.empty, 8)}")
    if config.evaluation.loeo:
        _require_several_left(config, groups)
        findings += _what_is_not_asked(config, split, groups)
    return split.saying(notes=notes, findings=findings)


def require_asked(left: LeftOutGroup, name: str) -> None:
    """Somebody can be asked for an environment that train lacks.

    Raises:
        ConfigError: nobody can.
    """
    if len(left.rows) == 0:
        rule = "no user of this environment has an interaction in another one, so none can be asked for it"
        raise ConfigError(rule, key="evaluation.loeo", value=name)


def short_lists(candidates: Mapping[str, int], length: int) -> str | None:
    """A warning where a list holds a large part of the candidates that it is chosen from.

    Args:
        candidates: how many there are, by what is ranked.
        length: of a list.
    """
    short = {name: count for name, count in candidates.items() if count < CANDIDATES * length}
    if not short:
        return None
    ranked = listing([f"{count:,} of {name}" for name, count in short.items()], 6)
    return (
        f"a list of {length} is chosen from few candidates, {ranked}: at random it has "
        f"{min(1.0, length / min(short.values())):.0%} of what is sought; take metrics of a smaller K, or "
        "bring more items"
    )


def _of_batches(error: ConfigError, config: TrainConfig, split: Split) -> ConfigError:
    """The error, with the reason where a shift of features has changed no train item."""
    if split.shown is None or not any(one.column == BATCH for one in config.environments.column):
        return error
    if bool(split.shown.changed[split.train.item].any()):
        return error
    rule = f"{error.rule}: with split.train_broken 0 there is one batch; the control needs other environments"
    return ConfigError(rule, key=error.key, value=error.value)


def _require_sizes(config: TrainConfig, groups: KnownGroups, total: int) -> None:
    """None is filled up or merged, as environments that are identified are."""
    share = config.environments.min_share
    needed = max(2, round(share * total))
    small = [
        f"{name} ({size:,})" for name, size in zip(groups.names, groups.sizes, strict=True) if size < needed
    ]
    if small:
        rule = (
            f"makes environments of fewer than {needed:,} train interactions (environments.min_share is "
            f"{share:g}); take wider bins, or lower min_share"
        )
        raise ConfigError(rule, key="environments.column", value=listing(small, 8))


def _require_several_left(config: TrainConfig, groups: KnownGroups) -> None:
    """Without one of two environments a loss of their risks is the plain one, whatever its settings."""
    if config.backbone.reads_environments and len(groups.names) < 3:
        kind = config.backbone.risks.kind
        rule = (
            f"without one of two environments backbone.risks.kind {kind!r} is the plain loss, so loeo says "
            "nothing of it; give it three environments or more, or set evaluation.loeo: false"
        )
        raise ConfigError(rule, key="evaluation.loeo", value=groups.said())


def _what_is_not_asked(config: TrainConfig, split: Split, groups: KnownGroups) -> list[str]:
    """How many rows ``evaluation.loeo`` asks nobody for, and where its lists are short."""
    held_out, said, candidates = split.ood_valid.held_out, [], {}
    for index, name in enumerate(groups.names):
        left = left_out_group(split.train, groups, index, held_out=held_out)
        require_asked(left, name)
        said.append(left.said)
        candidates[name] = int(left.candidates.sum())
    short = short_lists(candidates, split_name(config.training.monitor)[2])
    found = ("; ".join(one for one in said if one), short)
    return [f"evaluation.loeo: {one}" for one in found if one]
