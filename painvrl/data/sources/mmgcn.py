"""Movielens, Tiktok and Kwai in the layout in which they are published with MMGCN, GRCN and InvRL.

MMGCN is by Wei et al. (ACM MM 2019), GRCN by Wei et al. (ACM MM 2020), InvRL by Du et al. (ACM MM 2022).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import Field

from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources.assemble import Modalities, SourceConfig, assemble
from painvrl.data.sources.items import NOTHING
from painvrl.data.sources.messages import Layout, Place, files_in, shown, unfit
from painvrl.data.sources.port import SOURCES
from painvrl.data.sources.rows import PART, Duplicates, RawInteractions
from painvrl.data.sources.safe_npy import read_array, read_npy
from painvrl.data.sources.texts import Texts
from painvrl.data.sources.values import KeyedValues, keyed_by_row
from painvrl.data.sources.words import bag_of_words, is_index_pairs

PARTS: Final = {"train": "train.npy", "valid": "val_full.npy", "test": "test_full.npy"}
FEATURES: Final = {
    "visual": ("feat_v", "v_feat", "FeatureVideo_normal", "visual_feat", "image_feat"),
    "acoustic": ("feat_a", "a_feat", "FeatureAudio_avg_normal", "audio_feat"),
    "textual": ("feat_t", "t_feat", "FeatureText_stl_normal", "textual_feat", "text_feat"),
}
"""Each modality's published names, without ``.npy`` or ``.pt``."""

LAYOUT: Final = Layout(
    files=f"{', '.join(PARTS.values())}, and features: feat_v, feat_a or feat_t as .npy or .pt, "
    "or FeatureVideo_normal.npy, FeatureAudio_avg_normal.npy, FeatureText_stl_normal.npy "
    "(other names: data.features)",
    published="with MMGCN (github.com/weiyinwei/MMGCN), GRCN (github.com/weiyinwei/GRCN) "
    "and InvRL (github.com/nickwzk/InvRL)",
)


@SOURCES.register
class MmgcnConfig(SourceConfig):
    """A folder of ``.npy`` files: parts of interactions, and features by item number.

    The folder holds ``train.npy``, ``[N, 2]`` whole numbers (user, item), and ``val_full.npy`` and
    ``test_full.npy``, whose rows are a user followed by items. Item ids are offset by the number of users;
    the data set's own ids of items are without it, and are the rows of the features. ``user_item_dict.npy``
    repeats ``train.npy`` and is not read.

    Features are of one of two kinds. Floating-point numbers are a matrix ``[items, features]``, in which a
    row of zeros says that the item has none; whole numbers ``[2, M]`` are (item, word) pairs, a bag of words.
    """

    kind: Literal["mmgcn"] = "mmgcn"
    path: Path
    """The folder, relative to the current directory."""
    duplicates: Duplicates = "first_part"
    core: int = Field(default=1, ge=1)
    """Keep users and items with so many interactions or more. 1 keeps all: published sets are filtered
    already.
    """
    features: Modalities[str] = Field(default_factory=dict)
    """File names by modality; left out, every file with a published name."""
    vocabulary: int = Field(default=1024, ge=1)
    """Most words of a bag that become features; those that most items have. 1,024 take 0.3 GiB for Tiktok's
    76,085 items.
    """
    users: int | None = Field(default=None, ge=1)
    """Number of users, where the files leave it open."""

    def read(self, encodings: ArrayCache, seed: int) -> Dataset:
        """See :class:`Source`."""
        return read_mmgcn(self, encodings)

    def named_files(self) -> tuple[Path, ...]:
        """Every file whose content decides the data set."""
        folder = self.path.expanduser()
        parts = [folder / name for name in PARTS.values()]
        features = [folder / name for names in self.feature_files().values() for name in names]
        return (*parts, *features, *super().named_files())

    def feature_files(self) -> dict[str, tuple[str, ...]]:
        """By modality, the names to read: one where all is well, several where the folder leaves it open."""
        if self.features:
            return {modality: (name,) for modality, name in self.features.items()}
        there = files_in(self.path)
        found = {
            modality: tuple(name for stem in stems for name in (f"{stem}.npy", f"{stem}.pt") if name in there)
            for modality, stems in FEATURES.items()
        }
        return {modality: names for modality, names in found.items() if names}


def read_mmgcn(config: MmgcnConfig, cache: ArrayCache) -> Dataset:
    """Read such a folder; ``columns.interaction["part"]`` is ``train``, ``valid`` or ``test``.

    A pair that occurs again keeps the row of its first part, train before valid before test: whatever is
    trained on cannot be found later, because it is hidden.

    Raises:
        DataError: a file is missing or not as it must be.
    """
    there = files_in(config.path)
    missing = [name for name in PARTS.values() if name not in there]
    if missing:
        raise unfit(config.path, LAYOUT, ", ".join(missing))
    pairs = {part: _read_part(there[name]) for part, name in PARTS.items()}
    user = np.concatenate([users for users, _ in pairs.values()])
    item = np.concatenate([items for _, items in pairs.values()])
    if len(item) == 0:
        raise Place(config.path, "data.path").error("no row has an item")
    part = np.repeat(list(PARTS), [len(users) for users, _ in pairs.values()])
    arrays = _read_features(config, there)
    n_users, n_items = _sizes(config, user, item, arrays)
    item -= n_users
    raw = RawInteractions(
        user=Texts.of_integers(user),
        item=Texts.of_integers(item),
        rating=None,
        file=config.path,
        labels={PART: part},
    )
    features: dict[str, KeyedValues] = {}
    for modality, (file, array) in arrays.items():
        key = f"data.features.{modality}"
        if is_index_pairs(array):
            words = config.vocabulary
            features[modality] = bag_of_words(
                array, n_users=n_users, n_items=n_items, vocabulary=words, file=file, key=key
            )
        else:
            features[modality] = keyed_by_row(array, file=file, key=key)
    name = config.path.expanduser().resolve().name
    return assemble(name, raw, NOTHING, config, cache, features)


def _read_part(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Users and items ``[n]`` int64 of rows that are a user followed by items; a pair is such a row."""
    array, place = read_npy(file, key="data.path"), Place(file, "data.path")
    if array.ndim == 0 or not len(array):
        raise place.error("must hold rows", f"{array.dtype} {list(array.shape)}")
    rows = [row.tolist() if isinstance(row, np.ndarray) else row for row in array.tolist()]
    odd = next((at for at, row in enumerate(rows) if not _is_user_and_items(row)), None)
    if odd is not None:
        raise place.error(
            "each row must be a user followed by items, all of them whole numbers from 0 on; "
            f"row {odd + 1} is none",
            shown(rows[odd]),
        )
    length = np.array([len(row) for row in rows], dtype=np.int64)
    flat = np.fromiter(map(operator.index, chain.from_iterable(rows)), dtype=np.int64)
    first = np.zeros(len(flat), dtype=bool)
    first[np.cumsum(length) - length] = True
    return np.repeat(flat[first], length - 1), flat[~first]


def _is_user_and_items(row: object) -> bool:
    """Whether it is a list of such numbers; a dict or bytes could be read as one, which no one wrote."""
    if not isinstance(row, list | tuple) or not row:
        return False
    try:
        numbers = [operator.index(number) for number in row]
    except TypeError:
        return False
    return min(numbers) >= 0 and max(numbers) < 2**63


def _read_features(config: MmgcnConfig, there: Mapping[str, Path]) -> dict[str, tuple[Path, np.ndarray]]:
    """By modality, the file and the array in it."""
    arrays: dict[str, tuple[Path, np.ndarray]] = {}
    for modality, names in config.feature_files().items():
        key = f"data.features.{modality}"
        if len(names) > 1:
            rule = "several files can be this modality; name one of them"
            raise Place(config.path, key).error(rule, names)
        if names[0] not in there:
            raise unfit(config.path, LAYOUT, names[0], key=key)
        arrays[modality] = (there[names[0]], read_array(there[names[0]], key=key))
    if not arrays and not config.files:
        raise unfit(config.path, LAYOUT, "features", key="data.features")
    return arrays


def _sizes(
    config: MmgcnConfig, user: np.ndarray, item: np.ndarray, arrays: Mapping[str, tuple[Path, np.ndarray]]
) -> tuple[int, int]:
    """Numbers of users and items.

    The number of users, by which item ids are offset, lies above every user, not above any item, and is
    such that every item has a row of features.
    """
    of_features, of_users = Place(config.path, "data.features"), Place(config.path, "data.users")
    lengths = {modality: len(array) for modality, (_, array) in arrays.items() if not is_index_pairs(array)}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{modality} {rows}" for modality, rows in lengths.items())
        raise of_features.error("all modalities must have one row an item", found)
    n_rows = next(iter(lengths.values()), None)
    lowest = int(user.max()) + 1
    if n_rows is not None:
        lowest = max(lowest, int(item.max()) + 1 - n_rows)
    highest = int(item.min())
    n_users = config.users if config.users is not None else lowest
    if not lowest <= n_users <= highest:
        raise of_users.error(
            "item ids must be offset by the number of users, and every item must have a row of features; "
            f"the users are 0 to {user.max()}, the items {item.min()} to "
            f"{item.max()}, and there are {n_rows if n_rows is not None else 'no'} such rows",
            config.users,
        )
    if config.users is None and lowest < highest:
        raise of_users.error(
            f"the files leave the number of users open: anything from {lowest} to {highest} fits; name it"
        )
    n_items = int(item.max()) + 1 - n_users
    if n_rows is not None and n_rows != n_items:
        rule = f"there must be a row of features for each of the {n_items} items up to the last that occurs"
        raise of_features.error(rule, f"{n_rows} rows")
    return n_users, n_items
