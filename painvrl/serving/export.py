"""A model's vectors, ids and titles as files for other systems: Parquet, NumPy's ``.npz`` or safetensors.

A score is one inner product: offsets are a column of the item vectors, beside a column of ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

import painvrl
from painvrl.core.errors import ConfigError, PlaceError
from painvrl.core.wholefile import taking_its_place

if TYPE_CHECKING:
    from painvrl.run.checkpoint import Checkpoint

FORMULA = "score[u, i] = user_vectors[u] . item_vectors[i]; no further offset, and no normalisation"
UNTRAINED = "users whose vector is zero were not trained on and have no scores"


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written: the files, and how many users of the model it has no scores for."""

    files: tuple[Path, ...]
    users: int
    items: int
    width: int
    untrained: int


def export(checkpoint: Checkpoint, output: Path) -> Export:
    """Write a checkpoint's vectors in the format of ``output``'s suffix.

    Args:
        checkpoint: the model.
        output: ``NAME.npz`` or ``NAME.safetensors``; of ``NAME.parquet`` two files are made,
            ``NAME.users.parquet`` and ``NAME.items.parquet``.

    Raises:
        ConfigError: the suffix is another one.
        PlaceError: it cannot be written.
    """
    if output.suffix not in FORMATS:
        raise ConfigError(f"must end in {' or '.join(FORMATS)}", key="output", value=str(output))
    try:
        files = FORMATS[output.suffix](checkpoint, output)
    except OSError as error:
        raise PlaceError.of(error, "the vectors cannot be written", file=output) from None
    users, width = checkpoint.user_vectors.shape
    return Export(
        files=files,
        users=users,
        items=len(checkpoint.item_ids),
        width=width,
        untrained=users - len(checkpoint.trained_users),
    )


def about(checkpoint: Checkpoint) -> dict[str, object]:
    """What the score is, and where the vectors come from: every format carries it, as JSON."""
    return {
        "score": FORMULA,
        "users": UNTRAINED,
        "columns": dict(checkpoint.columns) or None,  # of both kinds of vectors, in their order
        "painvrl": painvrl.__version__,
        "checkpoint": checkpoint.path.name,
        "created": checkpoint.created,
        "study": checkpoint.origin.get("study"),
        "trial": checkpoint.origin.get("trial"),
        "fingerprint": checkpoint.fingerprint,
        "data_fingerprint": checkpoint.data_fingerprint,
        "trained_on": checkpoint.trained_on,
    }


def _arrays(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "user_vectors": checkpoint.user_vectors,
        "item_vectors": checkpoint.item_vectors,
        "seen_offsets": checkpoint.seen_offsets,
        "seen_items": checkpoint.seen_items,
    }


def _npz(checkpoint: Checkpoint, output: Path) -> tuple[Path, ...]:
    arrays = _arrays(checkpoint) | {
        "user_ids": np.array(checkpoint.user_ids),
        "item_ids": np.array(checkpoint.item_ids),
        "titles": np.array(checkpoint.titles),
        "about": np.array(json.dumps(about(checkpoint))),
    }
    with taking_its_place(output) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return (output,)


def _safetensors(checkpoint: Checkpoint, output: Path) -> tuple[Path, ...]:
    """Texts are bytes of JSON: the file's own metadata are too small for the ids of a large catalogue."""
    from safetensors.numpy import save

    texts = {"users": checkpoint.user_ids, "items": checkpoint.item_ids, "titles": checkpoint.titles}
    ids = np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)
    with taking_its_place(output) as temporary:
        temporary.write_bytes(
            save({**_arrays(checkpoint), "ids": ids}, metadata={"about": json.dumps(about(checkpoint))})
        )
    return (output,)


def _parquet(checkpoint: Checkpoint, output: Path) -> tuple[Path, ...]:
    import pyarrow as pa
    from pyarrow import parquet

    width = checkpoint.item_vectors.shape[1]
    seen = pa.LargeListArray.from_arrays(
        pa.array(checkpoint.seen_offsets),
        pa.array(checkpoint.item_ids).take(pa.array(checkpoint.seen_items)),
    )
    users = {"id": pa.array(checkpoint.user_ids), "vector": checkpoint.user_vectors, "seen": seen}
    items = {
        "id": pa.array(checkpoint.item_ids),
        "title": pa.array(checkpoint.titles),
        "vector": checkpoint.item_vectors,
    }
    files = []
    for name, columns in (("users", users), ("items", items)):
        columns["vector"] = pa.FixedSizeListArray.from_arrays(columns["vector"].ravel(), width)
        table = pa.table(columns).replace_schema_metadata({"painvrl": json.dumps(about(checkpoint))})
        file = output.with_suffix(f".{name}.parquet")
        with taking_its_place(file) as temporary:
            parquet.write_table(table, temporary)
        files.append(file)
    return tuple(files)


FORMATS: Mapping[str, Callable[[Checkpoint, Path], tuple[Path, ...]]] = MappingProxyType(
    {".parquet": _parquet, ".npz": _npz, ".safetensors": _safetensors}
)
