"""Checkpoints: a trained recommender in a folder that a fresh process loads without the data.

    manifest.json         format version, time, the folder of the files below, and a digest of each
    version-.../
      weights.safetensors   user_vectors [U, D], item_vectors [I, D], mask [F], seen items in CSR form,
                            item_degree [I], and what makes a vector of an item's features (``encoder.``)
      ids.json              raw ids of users and items, titles
      config.json           the configuration, metrics, fingerprints of data and configuration, and what the
                            columns of the vectors are

Files are written to a folder of their own and reach the disk before the manifest names it. The manifest is
replaced in one step. So whenever a process is killed or the power goes, the checkpoint is the old one or the
new one. Formats 1 and 2 have the files beside the manifest.

Reading takes NumPy only: neither torch nor the data are loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

import painvrl
from painvrl.core.errors import ConfigError, DataError, PlaceError, listing
from painvrl.core.wholefile import on_disk, taking_its_place
from painvrl.run.item_encoder import ItemEncoder

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from painvrl.run.pipeline import RunResult
    from painvrl.run.prepare import Prepared

_logger = logging.getLogger(__name__)

FORMAT = 3
READABLE = (1, 2, FORMAT)
"""Format 1 lacks ``columns``, ``item_degree``, ``encoder`` and ``origin``."""

WEIGHTS, IDS, CONFIG, MANIFEST = "weights.safetensors", "ids.json", "config.json", "manifest.json"
VERSION = "version-"
"""Begins the names of the folders that hold the files."""

_ABANDONED_SECONDS = 3600.0
"""A version that no manifest names is being written, or was by a process that died so long ago."""

ENCODER = "encoder."
TrainedOn = Literal["train", "train+valid"]


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One recommended item. ``rank`` starts at 1; scores of different users do not compare."""

    rank: int
    item: str
    title: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained recommender, on the CPU.

    Attributes:
        path: the folder that it was read from.
        created: when it was saved, ISO 8601 in UTC.
        settings: the run's configuration as JSON values.
        fingerprint: of the configuration.
        data_fingerprint: of the data set that it was trained on.
        trained_on: the parts that it was trained on.
        metrics: of the valid parts, before any refit.
        user_vectors: ``[U, D]`` float32.
        item_vectors: ``[I, D]`` float32; scores are ``user_vectors @ item_vectors.T``.
        mask: ``[F]`` float32 in [0, 1].
        seen_offsets: ``[U + 1]`` int64; where each user's part of ``seen_items`` starts and ends.
        seen_items: ``[N]`` int64, sorted by user.
        user_ids: ``U`` raw ids as text.
        item_ids: ``I`` raw ids as text.
        titles: ``I`` titles.
        origin: the ``study`` and the ``trial`` that it repeats, if any.
        columns: how many columns of the vectors are what, in their order: ``offset``, ``id``, ``invariant``
            (``content`` of a fusion that learns one part of all features), ``variant``. Empty if not known.
        item_degree: ``[I]`` int64, the interactions that each item was trained on; ``[0]`` if not known.
        encoder: makes vectors of features; ``None`` if that was not kept.
    """

    path: Path
    created: str
    settings: Mapping[str, object]
    fingerprint: str
    data_fingerprint: str
    trained_on: TrainedOn
    metrics: Mapping[str, float]
    user_vectors: NDArray[np.float32]
    item_vectors: NDArray[np.float32]
    mask: NDArray[np.float32]
    seen_offsets: NDArray[np.int64]
    seen_items: NDArray[np.int64]
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    origin: Mapping[str, str]
    columns: Mapping[str, int]
    item_degree: NDArray[np.int64]
    encoder: ItemEncoder | None

    def recommend(self, user: str, k: int = 10) -> tuple[Recommendation, ...]:
        """The ``k`` items with the best scores that ``user`` has not taken yet, best first.

        Equal scores keep the items' order. A user who has taken nearly everything gets fewer.

        Args:
            user: raw id.
            k: at least 1.

        Raises:
            ConfigError: the user is unknown or has nothing to be ranked by, or ``k`` is below 1.
        """
        if k < 1:
            raise ConfigError("must be at least 1", key="k", value=k)
        index = self._user_index.get(user)
        if index is None:
            example = ", ".join(self.user_ids[:3])
            raise ConfigError(
                f"{self.path} knows no such user; it has {len(self.user_ids):,}, among them {example}; "
                "filters of the data, such as data.core, may have removed others",
                key="user",
                value=user,
            )
        if not self.user_vectors[index].any():  # as training leaves users without an interaction
            raise ConfigError(
                f"the model was trained on no interaction of this user (trained on: {self.trained_on}), "
                "so it has no scores to rank items by",
                key="user",
                value=user,
            )
        scores = self.item_vectors @ self.user_vectors[index]
        scores[self.seen_items[self.seen_offsets[index] : self.seen_offsets[index + 1]]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:k]
        return tuple(
            Recommendation(
                rank=rank, item=self.item_ids[item], title=self.titles[item], score=float(scores[item])
            )
            for rank, item in enumerate(best, start=1)
            if np.isfinite(scores[item])
        )

    def explain(self, user: str, item: str) -> dict[str, float]:
        """The parts of a score, which add up to it but for rounding.

        Args:
            user: raw id, of :attr:`trained_users`.
            item: raw id.

        Raises:
            DataError: see :attr:`parts`.
        """
        names, index, at = self.parts, self._user_index[user], self._item_index[item]
        products = self.user_vectors[index].astype(np.float64) * self.item_vectors[at]
        places = np.cumsum([0, *self.columns.values()])[:-1]
        values = np.add.reduceat(products, places).tolist()
        if "offset" in self.columns:
            offset, cold = values.pop(0), self.item_degree[at] == 0
            values += [0.0, offset] if cold else [offset, 0.0]
        return dict(zip(names, values, strict=True))

    def encode_items(self, features: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """``[n, D]``: vectors of items without an interaction; see :meth:`ItemEncoder.encode`.

        Raises:
            ConfigError: the features are not what the model takes.
            DataError: the checkpoint does not hold what makes vectors of features.
        """
        if self.encoder is None:
            raise DataError(
                "does not hold what makes vectors of features: an earlier version saved it, or the fusion "
                "has a mixing that cannot be kept",
                file=self.path,
            )
        return self.encoder.encode(features)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The parts of a score: those of ``columns``, with the offset as ``popularity`` and ``cold``.

        Raises:
            DataError: an earlier version saved the checkpoint, and did not keep them.
        """
        if not self.columns:
            raise DataError(
                "was saved by an earlier version, without the parts of a score; train it again",
                file=self.path,
            )
        names = [name for name in self.columns if name != "offset"]
        return (*names, *(("popularity", "cold") if "offset" in self.columns else ()))

    @cached_property
    def trained_users(self) -> tuple[str, ...]:
        """Raw ids of the users whom the model was trained on: those that it has scores for."""
        trained = np.any(self.user_vectors, axis=1)  # training leaves users without an interaction at zero
        return tuple(raw for raw, known in zip(self.user_ids, trained, strict=True) if known)

    @cached_property
    def _user_index(self) -> Mapping[str, int]:
        return {raw: index for index, raw in enumerate(self.user_ids)}

    @cached_property
    def _item_index(self) -> Mapping[str, int]:
        return {raw: index for index, raw in enumerate(self.item_ids)}


def save_checkpoint(
    folder: Path, result: RunResult, prepared: Prepared, *, origin: Mapping[str, str] | None = None
) -> Path:
    """Write ``result`` to ``folder``, whole or not at all; a checkpoint of that name is replaced.

    Every interaction of the data set counts as seen, whatever part it lies in: no one wants to be
    recommended what they already have.

    Args:
        folder: the checkpoint; its parent is made where it is missing.
        result: the trained recommender.
        prepared: the data that it was trained on.
        origin: the ``study`` and the ``trial`` that it repeats.

    Returns:
        ``folder``, absolute.

    Raises:
        DataError: the folder exists and is no checkpoint.
        PlaceError: it cannot be written.
    """
    folder = folder.absolute()
    if folder.exists() and not _is_ours(folder):
        raise DataError("exists and is no checkpoint, so it is not replaced", file=folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=VERSION, dir=folder))
        try:
            building.chmod(0o755)  # mkdtemp makes folders that only the owner can read
            _write(building, result, prepared, dict(origin or {}))
            replaced = _point_at(building)
        except BaseException:
            if _named(folder) != building:
                shutil.rmtree(building, ignore_errors=True)
                with suppress(OSError):  # it is full, of the checkpoint that is there
                    folder.rmdir()
            raise
        _sweep(folder, building, replaced)
    except OSError as error:
        raise PlaceError.of(error, "the checkpoint cannot be written", file=folder) from error
    return folder


def trained_on(result: RunResult) -> TrainedOn:
    """The parts whose interactions ``result`` was trained on."""
    return "train+valid" if result.refit else "train"


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint and check that every file is the one that was saved.

    Raises:
        DataError: the folder is missing, foreign, damaged, or of a newer format.
    """
    manifest = _manifest(folder)
    try:
        return _load(folder, manifest)
    except (DataError, OSError):
        if _manifest(folder) == manifest:
            raise
        return load_checkpoint(folder)  # it was replaced meanwhile


def _load(folder: Path, manifest: Mapping[str, object]) -> Checkpoint:
    files, digests = _files(folder, manifest), manifest["files"]
    if not isinstance(digests, dict) or set(digests) != {WEIGHTS, IDS, CONFIG}:
        raise DataError("the manifest does not list the files of a checkpoint", file=folder / MANIFEST)
    for name, digest in digests.items():
        if _digest(files / name) != digest:
            raise DataError("is not the file that was saved; the checkpoint is damaged", file=files / name)

    try:
        return _assembled(folder, files, str(manifest["created"]))
    except MemoryError:
        raise
    except Exception as error:  # whole files that are another program's
        raise DataError("holds something else than a checkpoint of painvrl", file=folder) from error


def _assembled(folder: Path, files: Path, created: str) -> Checkpoint:
    from safetensors.numpy import load_file

    weights = load_file(files / WEIGHTS)
    encoder = {name: weights.pop(name) for name in list(weights) if name.startswith(ENCODER)}
    ids = json.loads((files / IDS).read_text(encoding="utf-8"))
    about = json.loads((files / CONFIG).read_text(encoding="utf-8"))
    return Checkpoint(
        path=folder,
        created=created,
        settings=about["config"],
        fingerprint=about["fingerprint"],
        data_fingerprint=about["data_fingerprint"],
        trained_on=about["trained_on"],
        metrics=about["metrics"],
        user_ids=tuple(ids["users"]),
        item_ids=tuple(ids["items"]),
        titles=tuple(ids["titles"]),
        origin=about.get("origin", {}),
        columns=about.get("columns", {}),
        encoder=ItemEncoder(
            widths=about["modalities"],
            smooth=about.get("smooth", {}),  # earlier versions did not keep them
            **{name.removeprefix(ENCODER): values for name, values in encoder.items()},
        )
        if encoder
        else None,
        item_degree=weights.pop("item_degree", np.zeros(0, np.int64)),
        **weights,
    )


def study_of(folder: Path) -> str | None:
    """The study whose trial a checkpoint repeats, read without its weights; ``None`` for any other folder."""
    try:
        about = json.loads((_files(folder, _manifest(folder)) / CONFIG).read_bytes())
        return str(about["origin"]["study"])
    except (DataError, OSError, ValueError, LookupError, TypeError):
        return None


def latest_checkpoint(folder: Path) -> Path:
    """The checkpoint in ``folder`` that was saved last; those that cannot be read are named in a warning.

    Raises:
        DataError: there is none, or none that can be read.
    """
    found, damaged = [], []
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        if path.parent.name.startswith("."):  # what earlier versions left half-made
            continue
        try:
            found.append((str(_manifest(path.parent)["created"]), path.parent))
        except DataError:
            damaged.append(path.parent.name)
    if not found:
        rule = "there is no checkpoint"
        if damaged:
            rule = f"none of the checkpoints can be read: {listing(damaged, 4)}"
        raise DataError(f"{rule}; make one with `painvrl train --best`", file=folder)
    if damaged:
        _logger.warning("checkpoints that cannot be read are left out: %s", listing(damaged, 4))
    return max(found)[1]


def _write(folder: Path, result: RunResult, prepared: Prepared, origin: Mapping[str, str]) -> None:
    from safetensors.torch import save

    dataset = prepared.dataset
    offsets, items = dataset.interactions.by_user()
    tensors = {
        "user_vectors": result.user_vectors,
        "item_vectors": result.item_vectors,
        "mask": result.mask,
        "seen_offsets": offsets,
        "seen_items": items,
        "item_degree": result.parts.degree,
        **_encoder(result, prepared),
    }
    # clone: safetensors refuses tensors that share memory, as views of one parameter do.
    (folder / WEIGHTS).write_bytes(  # not by `save_file`, whose errors do not say that the disk is full
        save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    )
    _dump(
        folder / IDS,
        {
            "users": [str(raw) for raw in dataset.user_ids.tolist()],
            "items": [str(raw) for raw in dataset.item_ids.tolist()],
            "titles": list(dataset.titles),
        },
    )
    _dump(
        folder / CONFIG,
        {
            "config": result.config.model_dump(mode="json"),
            "fingerprint": result.config.fingerprint(),
            "data": dataset.name,
            "data_fingerprint": dataset.fingerprint,
            "trained_on": trained_on(result),
            "metrics": dict(result.metrics),
            "origin": origin,
            "columns": _columns(result),
            "modalities": dict(prepared.widths),
            "smooth": _smooth(result, prepared),
        },
    )


def _columns(result: RunResult) -> dict[str, int]:
    from painvrl.model.fusion import INVARIANT

    fusion = result.config.fusion
    content = "invariant" if fusion.learners()[0] is INVARIANT else "content"
    counts = zip(("offset", "id", content, "variant"), result.parts.columns(fusion), strict=True)
    return {name: count for name, count in counts if count}


def _smooth(result: RunResult, prepared: Prepared) -> dict[str, dict[str, object]]:
    """What makes smooth features of a column's values, by the column's name."""
    from painvrl.data.smooth import centres_of

    columns, warm = prepared.dataset.columns.item, prepared.train.item_degree() > 0
    return {
        name: {"centres": centres_of(columns, name, smooth, warm)[1].tolist(), "width": smooth.width}
        for name, smooth in result.config.features.smooth.items()
    }


def _encoder(result: RunResult, prepared: Prepared) -> dict[str, Tensor]:
    """The tensors of the :class:`ItemEncoder`, by their names in the file."""
    import torch

    from painvrl.data.features import column_scaling, modalities_of

    projection = result.parts.weighed_projection(result.config.fusion)
    if projection is None:
        return {}
    config, data, warm = result.config.features, prepared.dataset, prepared.train.item_degree() > 0
    modalities = modalities_of(data.modalities, data.columns, warm, config, result.config.seed)
    scaling = [column_scaling(name, modality, warm, config) for name, modality in modalities.items()]
    mean, deviation = (torch.cat(columns) for columns in zip(*scaling, strict=True))
    lengths = torch.cat(
        [torch.full((width,), config.scales.get(name, 1.0)) for name, width in prepared.widths.items()]
    )
    weight = projection.weight.cpu() * lengths[:, None]
    tensors = {**vars(projection), "weight": weight, "mean": mean, "deviation": deviation}
    return {f"{ENCODER}{name}": tensor for name, tensor in tensors.items()}


def _point_at(files: Path) -> Path | None:
    """Let the manifest name ``files``, once they are on the disk; the folder that it named before."""
    folder = files.parent
    before = _named(folder)
    for path in (*files.iterdir(), files):
        on_disk(path)
    manifest = {
        "format": FORMAT,
        "painvrl": painvrl.__version__,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "version": files.name,
        "files": {name: _digest(files / name) for name in (WEIGHTS, IDS, CONFIG)},
    }
    with taking_its_place(folder / MANIFEST, durably=True) as temporary:
        _dump(temporary, manifest)
    on_disk(folder.parent)
    return before


def _sweep(folder: Path, current: Path, replaced: Path | None) -> None:
    """Delete the version that was replaced, and what processes left behind that died over another."""
    for name in (WEIGHTS, IDS, CONFIG):  # of a format that has its files there
        (folder / name).unlink(missing_ok=True)
    for path in (*folder.glob(f"{VERSION}*"), *folder.glob(".*.tmp")):
        with suppress(OSError):  # another process was here
            abandoned = time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
            if path.is_file() and abandoned:
                path.unlink()
            elif path != current and (path == replaced or abandoned):
                shutil.rmtree(path)


def _is_ours(folder: Path) -> bool:
    """Whether a folder is a checkpoint, or what is left of one whose first writing was killed."""
    if (folder / MANIFEST).is_file():
        return True
    return folder.is_dir() and all(
        path.name.startswith(VERSION) or path.suffix == ".tmp" for path in folder.iterdir()
    )


def _files(folder: Path, manifest: Mapping[str, object]) -> Path:
    """Where the files of a checkpoint lie; those of formats 1 and 2 beside the manifest."""
    return folder / str(manifest.get("version", ""))


def _named(folder: Path) -> Path | None:
    """Where the files of a checkpoint lie, if there is one."""
    try:
        return _files(folder, _manifest(folder))
    except DataError:
        return None


def _manifest(folder: Path) -> Mapping[str, object]:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise DataError("there is no such checkpoint", file=folder)
    if not path.is_file():
        raise DataError(f"is no checkpoint: it has no {MANIFEST}", file=folder)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("the manifest cannot be read; the checkpoint is damaged", file=path) from error
    if not isinstance(manifest, dict) or not {"format", "created", "files"} <= set(manifest):
        raise DataError("is no manifest of a painvrl checkpoint", file=path)
    if manifest["format"] not in READABLE:
        formats = " and ".join(map(str, READABLE))
        raise DataError(
            f"this version reads formats {formats} of checkpoints", file=path, value=manifest["format"]
        )
    version = str(manifest.get("version", VERSION))
    if not re.fullmatch(rf"{VERSION}\w*", version):  # else it might lead anywhere
        raise DataError("is no name of a version's folder", file=path, key="version", value=version)
    return manifest


def _digest(path: Path) -> str | None:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return None


def _dump(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1), encoding="utf-8")
