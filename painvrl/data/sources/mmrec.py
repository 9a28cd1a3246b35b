"""MMRec's folders, and RecBole's atomic files: an ``.inter`` file, features and descriptions of items.

MMRec is the toolbox of Zhou (2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import Field

from painvrl.core.errors import listing
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset
from painvrl.data.sources.assemble import Modalities, SourceConfig, assemble, with_users
from painvrl.data.sources.columns import Column, DateOrder, assumed_of
from painvrl.data.sources.items import NOTHING, ItemTable, described_by
from painvrl.data.sources.messages import Layout, Place, files_in, unfit
from painvrl.data.sources.port import SOURCES
from painvrl.data.sources.rows import PART, RawInteractions
from painvrl.data.sources.safe_npy import read_array
from painvrl.data.sources.tabular import Table, read_table, renamed
from painvrl.data.sources.texts import Texts, order_key
from painvrl.data.sources.values import KeyedValues, keyed_by_row

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


@SOURCES.register
class MmrecConfig(SourceConfig):
    """A folder in MMRec's or RecBole's format.

    Its files know no quotes, and an ``.item`` file of the same name describes the items. Columns are named
    without RecBole's types (``item_id``, not ``item_id:token``). The columns ``rating`` and ``timestamp`` are
    used where they are; ``x_label`` (0, 1, 2) is the files' own split, and the columns of ``.item`` and
    ``.user`` files are what splits can group by.

    Row ``i`` of features belongs to the item in row ``i`` of the ``.item`` file, or, without that file, to
    item id ``i``. There must be as many rows as items; a row of zeros says that the item has none.
    """

    kind: Literal["mmrec"] = "mmrec"
    path: Path
    """The folder, relative to the current directory."""
    name: str | None = None
    """Name of the ``.inter`` file, where there are several."""
    user: str | None = None
    """Column of user ids, where it is not ``user_id`` or ``userID``."""
    item: str | None = None
    """Column of item ids, where it is not ``item_id`` or ``itemID``."""
    # Left out of what is written while nothing is in it, as configurations of old have none.
    dates: DateOrder | None = Field(default=None, exclude_if=lambda dates: dates is None)
    """Whether dates such as 09/08/2024 put the day or the month first; ``null``: what all of them can only
    be.
    """
    features: Modalities[str] = Field(default_factory=dict)
    """File names by modality; left out, every ``NAME_feat.npy``. ``text_feat.npy`` becomes ``textual``."""
    title: str | None = None
    """Column of the ``.item`` file shown to people; ``null`` shows the ids."""
    text: str | tuple[str, ...] = ()
    """Column of the ``.item`` file, or columns that are joined, encoded as the modality ``text``."""
    categories: str | None = None
    """Column of the ``.item`` file with names that become the multi-hot modality ``categories``."""
    separator: str = Field(default=" ", min_length=1)
    """What divides the names in ``categories``: a blank, as in RecBole's ``token_seq``."""

    def read(self, encodings: ArrayCache, seed: int) -> Dataset:
        """See :class:`Source`; ``x_label`` becomes ``columns.interaction["part"]``: train, valid or test."""
        there = files_in(self.path)
        file = _interaction_file(self, there)
        table = _read_typed(file)
        label, rating, time = (
            Column(table, name, "data.path", self.decimal, self.dates) if name in table.names else None
            for name in ("x_label", "rating", "timestamp")
        )
        raw = RawInteractions(
            user=_id_column(table, self.user, USER_COLUMNS, "data.user").ids(),
            item=_id_column(table, self.item, ITEM_COLUMNS, "data.item").ids(),
            rating=None if rating is None else rating.numbers(),
            file=file,
            time=None if time is None else time.times(),
            labels={} if label is None else {PART: _parts(label)},
            notes=(*table.notes, *assumed_of(rating, time)),
            findings=() if time is None else time.doubts,
        )
        described = NOTHING
        if (items := there.get(f"{file.stem}.item")) is not None:
            ids = _id_column(_read_typed(items), self.item, ITEM_COLUMNS, "data.item")
            said = self.model_dump(include={"title", "text", "categories", "separator"})
            described = described_by(
                ids.table,
                ids.distinct_ids("item"),
                ItemTable(path=items, key=ids.name, columns=tuple(_others(ids)), **said),
                where="data",
                key="data.path",
                key_of_columns="data.path",
            )
        elif self.text or self.categories or self.title:
            raise unfit(self.path, LAYOUT, "the .item file that title, text and categories are columns of")
        features = _read_features(self, there, raw.item, None if items is None else described.ids)
        if not (features or self.files or self.text or self.categories):
            raise unfit(self.path, LAYOUT, "a modality (features, or text or categories of the .item file)")
        dataset = assemble(file.stem, raw, described, self, encodings, features)
        if (users := there.get(f"{file.stem}.user")) is None:
            return dataset
        ids = _id_column(_read_typed(users), self.user, USER_COLUMNS, "data.user")
        columns = {name: Column(ids.table, name, "data.path").labels() for name in _others(ids)}
        return with_users(dataset, ids, columns, everyone=raw.user.distinct, key="data.path")

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

    @property
    def uses_text(self) -> bool:
        """Whether item texts are encoded."""
        return bool(self.text)


def _interaction_file(config: MmrecConfig, there: Mapping[str, Path]) -> Path:
    if config.name is not None:
        if f"{config.name}.inter" not in there:
            raise unfit(config.path, LAYOUT, f"{config.name}.inter", key="data.name")
        return there[f"{config.name}.inter"]
    files = [file for file in there.values() if file.suffix == ".inter"]
    if not files:
        raise unfit(config.path, LAYOUT, "an .inter file")
    if len(files) > 1:
        rule = "the folder holds several .inter files; name one of them"
        raise Place(config.path, "data.name").error(rule, listing([file.stem for file in files]))
    return files[0]


def _read_typed(file: Path) -> Table:
    """A table whose header may say ``name:type``; the types are dropped."""
    table = read_table(file, key="data.path", kind=".tsv", quotes=False)
    return renamed(table, lambda name: name.partition(":")[0], key="data.path")


def _id_column(table: Table, named: str | None, usual: tuple[str, ...], key: str) -> Column:
    """The named column, or the usual one that is there (or the first of them, to be missed)."""
    name = named or next((name for name in usual if name in table.names), usual[0])
    return Column(table, name, key)


def _others(ids: Column) -> list[str]:
    """The names of the columns beside that of the ids."""
    return [name for name in ids.table.names if name != ids.name]


def _parts(column: Column) -> np.ndarray:
    """``[rows]`` names of parts."""
    label = column.numbers()
    known = np.isin(label, list(PARTS))
    if not known.all():
        row = int((~known).argmax())
        rule = f"x_label must be 0 (train), 1 (valid) or 2 (test); row {row + 1} is not"
        raise column.place.error(rule, float(label[row]))
    return np.array(list(PARTS.values()))[label.astype(np.int64)]


def _read_features(
    config: MmrecConfig, there: Mapping[str, Path], item: Texts, item_ids: np.ndarray | None
) -> dict[str, KeyedValues]:
    """Feature files, keyed by raw item ids: those of the ``.item`` file's rows, or the rows' numbers."""
    features: dict[str, KeyedValues] = {}
    for modality, name in config.feature_files().items():
        key = f"data.features.{modality}"
        if name not in there:
            raise unfit(config.path, LAYOUT, name, key=key)
        place, array = Place(there[name], key), read_array(there[name], key=key)
        if item_ids is None:
            expected, rule = _count_positions(item, place), "items up to the last that occurs"
        else:
            expected, rule = len(item_ids), "rows of the .item file"
        if array.ndim and len(array) != expected:
            rule = f"there must be a row for each of the {expected} {rule}"
            raise place.error(rule, f"{len(array)} rows")
        features[modality] = keyed_by_row(array, file=there[name], key=key, ids=item_ids)
    return features


def _count_positions(item: Texts, place: Place) -> int:
    """One more than the largest item id, where all are numbers of rows."""
    # In their order, numbers come first: the last one tells of them all, but for those below 0.
    for text in (item.distinct[0], item.distinct[-1]):
        if order_key(text)[0] != 1 or len(text) > 18:
            rule = "without an .item file, item ids must be the numbers of the rows of features"
            raise place.error(rule, text)
    return int(item.distinct[-1]) + 1
