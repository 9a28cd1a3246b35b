"""Items' words, published as index pairs, as a bag-of-words modality.

The reference code learns an embedding ``E`` of the words and describes an item by the sum (InvRL) or the
mean (MMGCN, GRCN) of its words' rows. With the counts of the words as features ``f``, the projection ``f W``
is exactly that, for ``W = E``; so the words need no layer of their own, and the mask can gate each of them.
What differs: an item's row is scaled to unit length before the projection, as all modalities are
(InvRL scales the sum after it), and only words that many items have are kept. They are counted over all items
before any split, so the features of items that a split will hold out are counted as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from painvrl.data.sources.messages import Place
from painvrl.data.sources.texts import as_objects
from painvrl.data.sources.values import KeyedValues

MAX_BYTES = 8 << 30
"""Of a dense bag of words; above it, the message asks for fewer words."""


def is_index_pairs(array: np.ndarray) -> bool:
    """Whether ``array`` is ``[2, M]`` whole numbers: items in row 0, words in row 1."""
    return array.ndim == 2 and array.dtype.kind in "iu" and len(array) == 2 and array.size > 0


def bag_of_words(
    pairs: np.ndarray, *, n_users: int, n_items: int, vocabulary: int, file: Path, key: str
) -> KeyedValues:
    """How often each item has each of the ``vocabulary`` words that most items have.

    Ties are kept in the order of the words' indices; columns are in that order, too. Items without any
    of the kept words are absent.

    Args:
        pairs: ``[2, M]`` whole numbers. Row 0 holds item indices in ``[0, n_items)`` (as TikTok's are
            published), or, where one of them is not below ``n_items``, ids offset by ``n_users``.
        n_users: the offset of item ids.
        n_items: rows of the other modalities.
        vocabulary: at most so many words become features.
        file: for messages.
        key: for messages.

    Raises:
        DataError: an index is out of range, row 0 can be read both ways, or the result would be larger
            than ``MAX_BYTES``.
    """
    from scipy.sparse import coo_array  # a slow import that other data do without

    item, word = pairs.astype(np.int64)
    lowest, highest = int(item.min()), int(item.max())
    plain = lowest >= 0 and highest < n_items
    offset = lowest >= n_users and highest < n_users + n_items
    if plain == offset or int(word.min()) < 0:
        rule = (
            f"row 0 of the word pairs must hold item indices from 0 to {n_items - 1}, or ids from "
            f"{n_users} to {n_users + n_items - 1}, and row 1 words from 0 on"
        )
        if plain and offset:
            rule = (
                "row 0 of the word pairs can be read as item indices and as ids offset by the number of "
                f"users, {n_users}; give the words as a matrix in data.files instead"
            )
        raise Place(file, key).error(rule, f"items {lowest} to {highest}, words from {word.min()}")
    if offset:
        item = item - n_users
    words, column = np.unique(word, return_inverse=True)
    ones = np.ones(len(item), dtype=np.float32)
    counts = coo_array((ones, (item, column))).tocsc()  # of pairs that occur again the sum
    kept = np.sort(np.argsort(-np.diff(counts.indptr), kind="stable")[:vocabulary])
    chosen = counts[:, kept].tocsr()
    ids = np.flatnonzero(np.diff(chosen.indptr))
    described = len(np.unique(item))
    size = len(ids) * len(kept) * 4
    if size > MAX_BYTES:
        raise Place(file, "data.vocabulary", vocabulary).error(
            f"{len(kept)} words for {len(ids)} items would take {size / 2**30:.0f} GiB of at most "
            f"{MAX_BYTES / 2**30:.0f}; lower it"
        )
    notes: tuple[str, ...] = ()
    if len(kept) < len(words):
        without = f"; {described - len(ids):,} items have none of them" if described > len(ids) else ""
        most = f"the {len(kept):,} words that most items have are kept of {len(words):,} (data.vocabulary)"
        notes = (f"{key}: {most}{without}",)
    return KeyedValues(
        ids=as_objects([str(row) for row in ids.tolist()]),
        values=chosen[ids].toarray(),
        rows=described,
        names=tuple(f"word {word}" for word in words[kept].tolist()),
        counted=True,
        notes=notes,
    )
