"""Known environments are told, and refused, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.data.grouping import KnownGroups
from painvrl.data.provenance import Provenance
from painvrl.data.splits.rows import ShownFeatures
from painvrl.run.config import TrainConfig
from painvrl.run.final import check_refit, refit
from painvrl.run.known import _require_sizes, short_lists, with_known_groups
from painvrl.run.pipeline import run
from painvrl.run.prepare import Prepared, _what_is_shown, prepare, prepare_split, split_of


def told(settings: dict[str, Any], folder: Path, **changes: Any) -> Provenance:
    config = TrainConfig.model_validate(settings | changes)
    return split_of(config, cache_dir=folder)[1].statistics.provenance


def by_popularity(bins: Any, **more: Any) -> dict[str, Any]:
    return {
        "environments": {"assignment": "column", "column": {"column": "popularity", "bins": bins}, **more}
    }


def test_their_names_and_sizes_are_noted(tiny_settings: dict[str, Any], tmp_path: Path) -> None:
    (note,) = told(tiny_settings, tmp_path, **by_popularity(2)).notes
    assert note.startswith("environments.column: popularity < ")
    sizes = [int(part.partition(")")[0].replace(",", "")) for part in note.split("(")[1:]]
    assert len(sizes) == 2
    assert abs(sizes[0] - sizes[1]) < 0.4 * sum(sizes)


def test_bins_that_hold_nothing_are_a_warning(tiny_settings: dict[str, Any], tmp_path: Path) -> None:
    edges = told(tiny_settings, tmp_path, **by_popularity(2)).notes[0].split("< ")[1].split(" ")[0]
    (found,) = (
        one
        for one in told(tiny_settings, tmp_path, **by_popularity([float(edges), 9e6])).warnings
        if "column" in one
    )
    assert found == "environments.column: no train interaction is in popularity >= 9e+06"


@pytest.mark.parametrize(
    "reads",
    [
        {},
        {"mask": {"source": "ones"}, "backbone": {"risks": {"kind": "group_dro"}}},
        {"mask": {"source": "ones"}, "evaluation": {"loeo": True}},
    ],
)
def test_one_that_is_too_small_is_refused_whoever_reads_it(
    tiny_settings: dict[str, Any], tmp_path: Path, reads: dict[str, Any]
) -> None:
    small = by_popularity(4, min_share=0.4)
    with pytest.raises(ConfigError, match=r"^environments\.column: .* fewer than .* lower min_share"):
        told(tiny_settings, tmp_path, **small, **reads)
    # Another job on the same data, which are prepared once, is refused as well.
    unread = TrainConfig.model_validate(tiny_settings | small | {"mask": {"source": "ones"}})
    prepared = prepare(unread, cache_dir=tmp_path, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"^environments\.column: .* fewer than .* lower min_share"):
        run(TrainConfig.model_validate(tiny_settings | small | reads), prepared)


def test_an_environment_of_a_single_row_is_too_small_whatever_the_share(
    tiny_settings: dict[str, Any],
) -> None:
    config = TrainConfig.model_validate(tiny_settings | by_popularity(2, min_share=0.0))
    groups = KnownGroups(label=torch.tensor([0, 0, 0, 1, 1]), names=("a", "b"), sizes=(3, 2))
    _require_sizes(config, groups, 5)
    with pytest.raises(ConfigError, match=r"fewer than 2 train interactions .*found 'b \(1\)'"):
        _require_sizes(config, replace(groups, sizes=(4, 1)), 5)


def test_those_that_an_identification_starts_from_may_be_small(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    start = by_popularity(4, assignment="soft_mixture", start="column", min_share=0.4)
    assert told(tiny_settings, tmp_path, **start).notes


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        (by_popularity(2), True),
        (by_popularity(2) | {"mask": {"source": "ones"}}, False),
        (by_popularity(2) | {"mask": {"source": "ones"}, "backbone": {"risks": {"kind": "group_dro"}}}, True),
        (by_popularity(2, assignment="soft_mixture"), False),
        (by_popularity(2, assignment="soft_mixture") | {"evaluation": {"loeo": True}}, True),
        (by_popularity(2, assignment="soft_mixture", start="column"), True),
    ],
)
def test_a_column_that_nobody_reads_is_a_warning(
    tiny_settings: dict[str, Any], tmp_path: Path, changes: dict[str, Any], read: bool
) -> None:
    said = "".join(told(tiny_settings, tmp_path, **changes).warnings)
    assert ("nothing in this configuration reads it" not in said) == read


def test_one_that_nobody_can_be_asked_for_and_short_lists_are_told_before_a_training(
    tiny_settings: dict[str, Any], tmp_path: Path, tiny_prepared: Prepared
) -> None:
    loeo = by_popularity(2) | {"evaluation": {"loeo": True}}
    few = {"data": {**tiny_settings["data"], "n_items": 60}, "training": {"monitor": "iid/ndcg_at_20"}}
    said = told(tiny_settings, tmp_path, **loeo, **few).warnings
    assert any(one.startswith("evaluation.loeo: a list of 20 is chosen from few candidates") for one in said)
    data = tiny_prepared.dataset
    half = (np.arange(data.interactions.n_users) % 2).astype(str).astype(object)
    columns = replace(data.columns, user={**data.columns.user, "half": half})
    by_user = {"environments": {"assignment": "column", "column": "half"}, "evaluation": {"loeo": True}}
    config = TrainConfig.model_validate(tiny_settings | by_user)
    with pytest.raises(ConfigError, match=r"^evaluation\.loeo: no user of this environment"):
        with_known_groups(config, replace(data, columns=columns), tiny_prepared.split)


def test_rows_that_are_left_open_are_counted(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    data, train = tiny_prepared.dataset, tiny_prepared.train
    kind = np.array(["", "a", "b"], dtype=object)[np.arange(train.n_items) % 3]
    columns = replace(data.columns, item={**data.columns.item, "kind": kind})
    start = {"assignment": "soft_mixture", "start": "column", "column": {"column": "kind", "unknown": "open"}}
    config = TrainConfig.model_validate(tiny_settings | {"environments": start})
    found = with_known_groups(config, replace(data, columns=columns), tiny_prepared.split)
    count = int((train.item % 3 == 0).sum())
    assert f"environments.column: in no group, and left open: {count:,}" in found.statistics.provenance.notes


def test_without_a_broken_train_item_the_error_says_why_there_is_one_batch(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    modality = _modality(tiny_settings, tmp_path)
    split = {"protocol": "wrong_modality", "modality": modality, "train_broken": 0.0, "ood_broken": 0.0}
    batches = {"environments": {"assignment": "column", "column": "batch"}}
    with pytest.raises(
        ConfigError, match=r"all train interactions are in one group: with split\.train_broken 0"
    ):
        told(tiny_settings, tmp_path, split=split, **batches)
    (note,) = told(tiny_settings, tmp_path, split=split | {"train_broken": 0.5}).notes
    assert note.startswith(f"split.modality: items whose {modality} is another item's: ")


def _modality(settings: dict[str, Any], folder: Path) -> str:
    return next(iter(split_of(TrainConfig.model_validate(settings), cache_dir=folder)[0].modalities))


def test_a_shift_of_features_says_how_many_items_it_changed_and_how_many_look_the_same(
    tiny_prepared: Prepared,
) -> None:
    data = tiny_prepared.dataset
    (name, own) = next(iter(data.modalities.items()))
    alike = replace(own, values=torch.cat([own.values[:1], own.values[:1], own.values[2:]]))
    data = replace(data, modalities={**data.modalities, name: alike})
    source = torch.arange(len(own.values))
    source[:5] = torch.tensor([1, 0, 3, 2, -1])
    taken, swapped = _what_is_shown(data, ShownFeatures(modality=name, source=source))
    assert taken == f"split.modality: items whose {name} is taken away: 1"
    assert swapped == (
        f"split.modality: items whose {name} is another item's: 4; "
        "2 of them have that of an item with the same values"
    )


def test_lists_are_short_where_they_hold_a_quarter_of_what_they_are_chosen_from() -> None:
    assert short_lists({"a": 80, "b": 100}, 20) is None
    said = short_lists({"a": 79, "b": 40, "c": 100}, 20)
    assert said is not None
    assert said.startswith(
        "a list of 20 is chosen from few candidates, 79 of a, 40 of b: at random it has 50%"
    )


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"environments": {"assignment": "column"}}, False),  # the mask is that of the training before
        ({"environments": {"assignment": "soft_mixture", "start": "column"}}, True),
        (
            {
                "environments": {"assignment": "soft_mixture", "start": "column"},
                "mask": {"source": "ones"},
            },
            False,
        ),
        (
            {
                "environments": {"assignment": "column"},
                "mask": {"source": "ones"},
                "backbone": {"risks": {"kind": "group_dro"}},
            },
            True,
        ),
    ],
)
def test_a_refit_whose_new_rows_have_no_label_is_refused_before_the_training(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, changes: dict[str, Any], refused: bool
) -> None:
    data, split = tiny_prepared.dataset, tiny_prepared.split
    item = int(split.train.item[0])  # moves from train to a valid part
    of_item = split.train.item == item
    kind = np.where(np.arange(split.train.n_items) % 2 == 0, "a", "b").astype(object)
    kind[item] = ""
    iid = replace(split.valid["iid"], interactions=split.train.select(of_item))
    split = replace(split, train=split.train.select(~of_item), valid={**split.valid, "iid": iid})
    columns = replace(data.columns, item={**data.columns.item, "kind": kind})
    environments = {"environments": {"column": "kind", **changes["environments"]}}
    config = TrainConfig.model_validate(tiny_settings | changes | environments)
    prepared = prepare_split(config, replace(data, columns=columns), split, split.train, tiny_prepared.device)
    if refused:
        with pytest.raises(
            ConfigError, match=r"^environments\.column: with the valid parts, .* has no label"
        ):
            check_refit(config, prepared)
    else:
        check_refit(config, prepared)
        refit(config, prepared, steps_of=run(config, prepared))


def test_a_refit_without_true_environments_is_refused_before_the_training(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    given = TrainConfig.model_validate(tiny_settings | {"environments": {"assignment": "given"}})
    with pytest.raises(ConfigError, match="--refit adds OOD rows, which have no true environment"):
        check_refit(given, tiny_prepared)
