"""MMRec's folders, and RecBole's atomic files: an ``.inter`` file, features and descriptions of items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from pydantic import Field, field_validator

from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources.assemble import SourceConfig, assemble, with_free_names
from painvrl.data.sources.folder import Layout, files_in, unfit
from painvrl.data.sources.items import ItemDescriptions, labels_at, split_names
from painvrl.data.sources.matrices import keyed_by_row, read_array
from painvrl.data.sources.modality_file import KeyedValues
from painvrl.data.sources.rows import RawInteractions, without_duplicates
from painvrl.data.sources.tabular import (
    id_column,
    label_column,
    listing,
    number_column,
    read_table,
    require_distinct,
    time_column,
)
from painvrl.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

PARTS: Final = {0.0: "train", 1.0: "valid", 2.0: "test"}
"""What MMRec's ``x_label`` says."""
USER_COLUMNS: Final = ("user_id", "userID")
ITEM_COLUMNS: Final = ("item_id", "itemID")

LAYOUT: Final = Layout(
    files="an .inter file (tab-separated, with a header such as userID, itemID, rating, timestamp, x_label, "
    "or user_id:token, item_id:token, rating:float, timestamp:float), and for its items *_feat.npy files "
    "or an .item file",
    published="with MMRec (github.com/enoche/MMRec) and RecBole (github.com/RUCAIBox/RecBole)",
)


class MmrecConfig(SourceConfig):
    """A folder in MMRec's or RecBole's format.

    ``path``: the folder, relative to the current directory. ``name``: of the ``.inter`` file, where there
    are several; an ``.item`` file of the same name describes the items. Columns are named without
    RecBole's types (``item_id``, not ``item_id:token``). ``user``, ``item``: the columns of ids, where they
    are not ``user_id``, ``userID``, ``item_id``, ``itemID``. The columns ``rating`` and ``timestamp`` are
    used where they are; ``x_label`` (0, 1, 2) is the files' own split, and the columns of ``.item`` and
    ``.user`` files are what splits can group by. ``duplicates``: as for tables.

    ``features``: file names by modality; nothing for every ``NAME_feat.npy`` (``text_feat.npy`` is the
    modality ``textual``). Row ``i`` belongs to the item in row ``i`` of the ``.item`` file, or, without that
    file, to item id ``i``; a row of zeros says that the item has none. ``title``, ``text``,
    ``categories``: columns of the ``.item`` file, as for tables; names in ``categories`` are divided by
    ``separator``, a blank as in RecBole's ``token_seq``.
    """

    kind: Literal["mmrec"] = "mmrec"
    path: Path
    name: str | None = None
    user: str | None = None
    item: str | None = None
    duplicates: Literal["error", "drop"] = "error"
    features: dict[str, str] = Field(default_factory=dict)
    title: str | None = None
    text: str | tuple[str, ...] = ()
    categories: str | None = None
    separator: str = Field(default=" ", min_length=1)

    @field_validator("features")
    @classmethod
    def _free_names(cls, features: dict[str, str]) -> dict[str, str]:
        return with_free_names(features)

    def named_files(self) -> tuple[Path, ...]:
        """Every file whose content decides the data set."""
        there = files_in(self.path)
        tables = [file for file in there.values() if file.suffix in {".inter", ".item", ".user"}]
        features = [self.path.expanduser() / name for name in self.feature_files().values()]
        return (*tables, *features, *super().named_files())

    def feature_files(self) -> dict[str, str]:
        """By modality, the file's name."""
        if self.features:
            return self.features
        names = [name for name in files_in(self.path) if name.endswith("_feat.npy")]
        modalities = {name.removesuffix("_feat.npy"): name for name in names}
        return {"textual" if stem == "text" else stem: name for stem, name in modalities.items()}

    def text_columns(self) -> tuple[str, ...]:
        """The columns of the modality ``text``."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def uses_text(self) -> bool:
        """Whether item texts are encoded."""
        return bool(self.text)


def read_mmrec(config: MmrecConfig, cache: ArrayCache) -> Dataset:
    """Read such a folder; ``x_label`` becomes ``columns.interaction["part"]``: train, valid or test.

    Raises:
        DataError: a file is missing or not as it must be.
    """
    there = files_in(config.path)
    file = _interaction_file(config, there)
    frame = _read_typed(file)
    columns = frame.columns

    def numbers(name: str) -> np.ndarray | None:
        return number_column(frame, name, file=file, key="data.path") if name in columns else None

    time = time_column(frame, "timestamp", file=file, key="data.path") if "timestamp" in columns else None
    label = numbers("x_label")
    raw = RawInteractions(
        user=id_column(frame, _id_name(config.user, USER_COLUMNS, frame), file=file, key="data.user"),
        item=id_column(frame, _id_name(config.item, ITEM_COLUMNS, frame), file=file, key="data.item"),
        rating=numbers("rating"),
        file=file,
        time=time,
        labels={} if label is None else {"part": _parts(label, file)},
    )
    raw = without_duplicates(raw, time, duplicates=config.duplicates)
    items = _read_described(there.get(f"{file.stem}.item"), config.item, ITEM_COLUMNS, "data.item")
    users = _read_described(there.get(f"{file.stem}.user"), config.user, USER_COLUMNS, "data.user")
    described = _describe(config, items)
    features = _read_features(config, there, raw, None if items is None else items.ids)
    if not (features or config.files or config.text or config.categories):
        raise unfit(config.path, LAYOUT, "a modality (features, or text or categories of the .item file)")
    dataset = assemble(file.stem, raw, described, config, cache, features)
    if users is None:
        return dataset
    labels = labels_at(dataset.user_ids, users.ids, users.columns())
    return replace(dataset, columns=replace(dataset.columns, user=labels))


def _interaction_file(config: MmrecConfig, there: Mapping[str, Path]) -> Path:
    if config.name is not None:
        if f"{config.name}.inter" not in there:
            raise unfit(config.path, LAYOUT, f"{config.name}.inter", key="data.name")
        return there[f"{config.name}.inter"]
    files = [file for file in there.values() if file.suffix == ".inter"]
    if not files:
        raise unfit(config.path, LAYOUT, "an .inter file")
    if len(files) > 1:
        raise DataError(
            "the folder holds several .inter files; name one of them",
            file=config.path,
            key="data.name",
            value=listing([file.stem for file in files]),
        )
    return files[0]


def _read_typed(file: Path) -> pd.DataFrame:
    """A table whose header may say ``name:type``; the types are dropped."""
    frame = read_table(file, key="data.path", kind=".tsv")
    return frame.rename(columns=lambda name: str(name).partition(":")[0])


def _id_name(named: str | None, usual: tuple[str, ...], frame: pd.DataFrame) -> str:
    """The named column, or the usual one that is there (or the first of them, to be missed)."""
    return named or next((name for name in usual if name in frame.columns), usual[0])


def _parts(label: np.ndarray, file: Path) -> np.ndarray:
    """``[rows]`` names of parts."""
    known = np.isin(label, list(PARTS))
    if not known.all():
        row = int((~known).argmax())
        raise DataError(
            f"x_label must be 0 (train), 1 (valid) or 2 (test); row {row + 1} is not",
            file=file,
            key="data.path",
            value=float(label[row]),
        )
    return np.array(list(PARTS.values()))[label.astype(np.int64)]


@dataclass(frozen=True, kw_only=True)
class _Described:
    """An ``.item`` or ``.user`` file.

    Attributes:
        ids: ``[M]`` distinct raw ids, in the order of the rows.
        frame: all columns, the ids' among them.
        name: the ids' column.
        file: for messages.
    """

    ids: np.ndarray
    frame: pd.DataFrame
    name: str
    file: Path

    def texts_of(self, column: str, key: str) -> list[str]:
        """A column, as text."""
        texts: list[str] = label_column(self.frame, column, file=self.file, key=key).tolist()
        return texts

    def columns(self) -> dict[str, list[str]]:
        """All columns but the ids', as text."""
        return {name: self.texts_of(name, "data.path") for name in self.frame.columns if name != self.name}


def _read_described(
    file: Path | None, named: str | None, usual: tuple[str, ...], key: str
) -> _Described | None:
    if file is None:
        return None
    frame = _read_typed(file)
    name = _id_name(named, usual, frame)
    ids = id_column(frame, name, file=file, key=key)
    require_distinct(ids, file=file, key=key, value=name, of=key.removeprefix("data."))
    return _Described(ids=ids, frame=frame, name=name, file=file)


def _describe(config: MmrecConfig, items: _Described | None) -> ItemDescriptions:
    """Titles, texts and categories from the ``.item`` file."""
    if items is None:
        if config.text or config.categories or config.title:
            raise unfit(config.path, LAYOUT, "the .item file that title, text and categories are columns of")
        return ItemDescriptions(ids=np.zeros(0, dtype=np.int64), titles=())
    titles = [""] * len(items.ids)
    if config.title is not None:
        titles = items.texts_of(config.title, "data.title")
    fields = [items.texts_of(column, "data.text") for column in config.text_columns()]
    categories = None
    if config.categories is not None:
        named = items.texts_of(config.categories, "data.categories")
        categories = tuple(split_names(names, config.separator) for names in named)
    return ItemDescriptions(
        ids=items.ids,
        titles=tuple(titles),
        texts=tuple(", ".join(filter(None, row)) for row in zip(*fields, strict=True)) if fields else None,
        categories=categories,
        columns=items.columns(),
    )


def _read_features(
    config: MmrecConfig, there: Mapping[str, Path], raw: RawInteractions, item_ids: np.ndarray | None
) -> dict[str, KeyedValues]:
    """Feature files, keyed by raw item ids."""
    features: dict[str, KeyedValues] = {}
    for modality, name in config.feature_files().items():
        key = f"data.features.{modality}"
        if name not in there:
            raise unfit(config.path, LAYOUT, name, key=key)
        array = read_array(there[name], key=key)
        keyed = keyed_by_row(array, file=there[name], key=key)
        if item_ids is not None:
            if len(array) != len(item_ids):
                raise DataError(
                    f"there must be a row for each of the {len(item_ids)} rows of the .item file",
                    file=there[name],
                    key=key,
                    value=f"{len(array)} rows",
                )
            keyed = KeyedValues(ids=item_ids[keyed.ids], values=keyed.values)
        elif raw.item.dtype.kind != "i":
            raise DataError(
                "without an .item file, item ids must be the numbers of the rows of features",
                file=there[name],
                key=key,
                value=str(raw.item[0]),
            )
        features[modality] = keyed
    return features
