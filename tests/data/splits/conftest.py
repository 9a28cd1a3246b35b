"""Opening splits, and the same data in another order."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from painvrl.data.dataset import Columns, Dataset
from painvrl.data.guard import AccessLog
from painvrl.data.interactions import Interactions
from painvrl.data.splits import Part, Split


@pytest.fixture
def dataset(make_dataset) -> Dataset:
    return make_dataset()


@pytest.fixture
def tests_of(tmp_path):
    """The test parts of a split by the name of their metrics."""

    def open_tests(split: Split) -> dict[str, Part]:
        return dict(split.sealed.open(AccessLog(tmp_path / "reads.jsonl"), "a test of the split").parts)

    return open_tests


@pytest.fixture
def parts_of(tests_of):
    """All parts of a split, the support among them, as Interactions by name."""

    def open_parts(split: Split) -> dict[str, Interactions]:
        scored = [*split.valid.values(), *tests_of(split).values()]
        parts = {"train": split.train, **{part.name: part.interactions for part in scored}}
        return parts if split.support is None else {**parts, "support": split.support}

    return open_parts


@pytest.fixture(scope="session")
def pairs():
    """The (user, item) pairs of interactions in their order."""

    def listed(interactions: Interactions) -> list[tuple[int, int]]:
        return list(zip(interactions.user.tolist(), interactions.item.tolist(), strict=True))

    return listed


@pytest.fixture(scope="session")
def shuffled():
    """The same data set with its rows in another order."""

    def shuffle(dataset: Dataset, seed: int) -> Dataset:
        order = torch.randperm(len(dataset.interactions), generator=torch.Generator().manual_seed(seed))
        truth, columns = dataset.truth, dataset.columns
        return dataclasses.replace(
            dataset,
            interactions=dataset.interactions.select(order),
            columns=Columns(
                time=None if columns.time is None else columns.time[order],
                interaction={name: labels[order.numpy()] for name, labels in columns.interaction.items()},
                item=columns.item,
                user=columns.user,
            ),
            truth=truth
            and dataclasses.replace(truth, part=truth.part[order], environment=truth.environment[order]),
        )

    return shuffle
