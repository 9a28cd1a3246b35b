"""Content digests: equal content has an equal digest, on every machine and in every process."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from painvrl.data.dataset import Dataset, Modality
from painvrl.data.interactions import Interactions

_state = partial(hashlib.blake2b, digest_size=16)
_INT64 = re.compile(r"0|-?[1-9][0-9]{0,17}")


def digest_of(*parts: object) -> str:
    """A hex digest of ``parts``: arrays by dtype, shape and bytes, all else by its JSON text.

    String arrays are digested as text, so that their width (``<U3``, ``<U7``) does not matter.
    """
    state = _state()
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype.kind in "biuf":
            array = np.ascontiguousarray(part)
            state.update(f"array {array.dtype.str} {array.shape} ".encode())
            state.update(array.data)
        else:
            content = part.tolist() if isinstance(part, np.ndarray) else part
            text = json.dumps(content, sort_keys=True).encode()
            state.update(f"json {len(text)} ".encode())
            state.update(text)
    return state.hexdigest()


def digest_of_file(path: Path) -> str:
    """A hex digest of the bytes of ``path``.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, _state).hexdigest()


def digest_of_interactions(interactions: Interactions, user_ids: np.ndarray, item_ids: np.ndarray) -> str:
    """A hex digest of who took what, in raw ids; the features do not enter."""
    user, item = interactions.user.cpu().numpy(), interactions.item.cpu().numpy()
    return digest_of(digested_ids(user_ids), digested_ids(item_ids), user, item)


def digested_ids(ids: np.ndarray) -> np.ndarray:
    """Ids as they enter a digest: as int64 where each is the text of one, else as they are.

    So digests of data sets with integer ids are those of the time when such ids were numbers.
    """
    if all(_INT64.fullmatch(text) for text in ids.tolist()):
        return ids.astype(np.int64)
    return ids


def dataset_fingerprint(
    interactions: Interactions,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
    modalities: Mapping[str, Modality],
) -> str:
    """A hex digest of all that training can see: interactions, raw ids, and modalities in order."""
    parts: list[object] = [digest_of_interactions(interactions, user_ids, item_ids)]
    for name, modality in modalities.items():
        parts += [name, modality.values.cpu().numpy(), modality.present.cpu().numpy()]
    return digest_of(*parts)


def digest_for_all_seeds(dataset: Dataset, *, without: Collection[str] = ()) -> str:
    """A hex digest of all that data and splits are made of beside settings and seed.

    That is what training can see and the columns that splits go by; nothing of planted data, which
    settings and seed make.

    ``without``: columns of the items that a split has drawn.
    """
    if dataset.truth is not None:
        return digest_of("planted")
    columns = dataset.columns
    items = {name: labels for name, labels in columns.item.items() if name not in without}
    parts: list[object] = [dataset.fingerprint, None if columns.time is None else columns.time.numpy()]
    for of in (columns.interaction, items, columns.user):
        parts += [sorted(of), *(of[name] for name in sorted(of))]
    return digest_of(*parts)
