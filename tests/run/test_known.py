"""Known environments are told, and refused, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.data.provenance import Provenance
from painvrl.data.splits.rows import ShownFeatures
from painvrl.run.config import TrainConfig
from painvrl.run.final import check_refit
from painvrl.run.known import short_lists
from painvrl.run.prepare import Prepared, _what_is_shown, split_of


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
    "reads", [{"backbone": {"risks": {"kind": "group_dro"}}}, {"evaluation": {"loeo": True}}, {}]
)
def test_one_that_is_too_small_is_refused_whoever_reads_it(
    tiny_settings: dict[str, Any], tmp_path: Path, reads: dict[str, Any]
) -> None:
    changes = {"mask": {"source": "ones"}} | by_popularity(4, min_share=0.4) | reads
    with pytest.raises(
        ConfigError, match=r"^environments\.column: makes environments of fewer than .* lower min_share"
    ):
        told(tiny_settings, tmp_path, **changes)


def test_those_that_an_identification_starts_from_may_be_small(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    start = by_popularity(4, assignment="soft_mixture", start="column", min_share=0.4)
    assert told(tiny_settings, tmp_path, **start).notes


def test_a_column_that_nobody_reads_is_a_warning(tiny_settings: dict[str, Any], tmp_path: Path) -> None:
    mixture = by_popularity(2, assignment="soft_mixture")
    read = mixture | {"evaluation": {"loeo": True}}
    assert "nobody reads it" in "".join(told(tiny_settings, tmp_path, **mixture).warnings)
    assert "nobody reads it" not in "".join(told(tiny_settings, tmp_path, **read).warnings)


def test_a_shift_of_features_says_how_many_items_it_changed_and_how_many_look_the_same(
    tiny_prepared: Prepared,
) -> None:
    data = tiny_prepared.dataset
    (name, own) = next(iter(data.modalities.items()))
    alike = replace(own, values=torch.cat([own.values[:1], own.values[:1], own.values[2:]]))
    data = replace(data, modalities={**data.modalities, name: alike})
    source = torch.arange(len(own.values))
    source[:4] = torch.tensor([1, 0, 3, 2])
    (said,) = _what_is_shown(data, ShownFeatures(modality=name, source=source))
    assert said == (
        f"split.modality: items whose {name} is not their own: 4; "
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
        ({"assignment": "column"}, False),  # the mask is that of the training before
        ({"assignment": "soft_mixture", "start": "column"}, True),
    ],
)
def test_a_refit_whose_new_rows_have_no_label_is_refused_before_the_training(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, changes: dict[str, Any], refused: bool
) -> None:
    data = tiny_prepared.dataset
    warm = (tiny_prepared.train.item_degree() > 0).numpy()
    kind = np.where(warm, np.where(np.arange(len(warm)) % 2, "a", "b"), "").astype(object)
    some = np.flatnonzero(warm)[:1]
    rows = tiny_prepared.train.item == int(some[0])
    kind[some] = ""  # an item of train that is taken out of it below
    columns = replace(data.columns, item={**data.columns.item, "kind": kind})
    train = tiny_prepared.train.select(~rows)
    valid = {
        name: replace(
            part, interactions=tiny_prepared.train.select(rows) if name == "iid" else part.interactions
        )
        for name, part in tiny_prepared.split.valid.items()
    }
    split = replace(tiny_prepared.split, train=train, valid=valid)
    prepared = replace(tiny_prepared, dataset=replace(data, columns=columns), split=split, train=train)
    config = TrainConfig.model_validate(tiny_settings | {"environments": {"column": "kind", **changes}})
    if not refused:
        check_refit(config, prepared)
        return
    with pytest.raises(
        ConfigError, match=r"^environments\.column: --refit adds the valid parts.* has no label"
    ):
        check_refit(config, prepared)
