"""Folders of the sizes in which Tiktok, Kwai and Movielens are published, with drawn content.

Files, names, types and pickles are those of the published ones; who took what is drawn. Users and items
belong to groups; most of what a user takes is of the own group, and popular items are taken far more often.
Features follow from the groups, so that there is something to learn.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy

GROUPS = 32
OWN_GROUP = 0.6
"""Share of a user's interactions that are with items of the own group, beside those by chance."""
LATENT = 16
DENSEST = 0.2
"""Share of all pairs that a small data set has at most."""
_ROWS = 8192


@dataclass(frozen=True, kw_only=True)
class Size:
    """A data set's size.

    Attributes:
        matrices: width of each feature matrix, by file.
        words: number of words in each file of (item, word) pairs.
    """

    users: int
    items: int
    interactions: int
    matrices: Mapping[str, int]
    words: Mapping[str, int] = field(default_factory=dict)

    def scaled(self, scale: float) -> Size:
        """Smaller in users, items and interactions; the widths stay."""
        users, items = max(8, round(scale * self.users)), max(8, round(scale * self.items))
        most = max(round(DENSEST * users * items), 2 * users + items)
        return replace(
            self, users=users, items=items, interactions=min(most, round(scale * self.interactions))
        )


PUBLISHED = {
    "tiktok": Size(
        users=36_656,
        items=76_085,
        interactions=726_065,
        matrices={"feat_v.pt": 128, "feat_a.pt": 128},
        words={"feat_t.pt": 11_574},
    ),
    "kwai": Size(users=22_611, items=329_510, interactions=1_664_305, matrices={"feat_v.pt": 2_048}),
    "movielens-paper": Size(
        users=55_485,
        items=5_986,
        interactions=1_239_508,
        matrices={
            "FeatureVideo_normal.npy": 2_048,
            "FeatureAudio_avg_normal.npy": 128,
            "FeatureText_stl_normal.npy": 100,
        },
    ),
}
"""By study."""


def write_folder(folder: Path, size: Size, seed: int = 0) -> None:
    """Write the files of ``size`` to ``folder``, unless they are there already."""
    said = json.dumps({"seed": seed, **asdict(size)})
    done = folder / "drawn.json"
    if done.exists() and done.read_text(encoding="utf-8") == said:
        return
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    rng = np.random.default_rng(seed)
    group = rng.integers(GROUPS, size=size.items)
    for name, pairs in zip(("train", "val_full", "test_full"), _parts(size, group, rng), strict=True):
        pairs[:, 1] += size.users
        if name == "train":
            np.save(folder / f"{name}.npy", pairs)
        else:
            (folder / f"{name}.npy").write_bytes(as_published(pairs))
    centres = rng.standard_normal((GROUPS, LATENT), dtype=np.float32)
    latent = centres[group] + rng.standard_normal((size.items, LATENT), dtype=np.float32)
    for name, width in size.matrices.items():
        _save(folder / name, _features(latent, width, rng))
    for name, words in size.words.items():
        _save(folder / name, _words(group, words, rng))
    done.write_text(said, encoding="utf-8")


def as_published(pairs: np.ndarray) -> bytes:
    """An ``.npy`` file of lists, a user followed by items, pickled as the published ones are."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    users, starts = np.unique(pairs[:, 0], return_index=True)
    rows = np.empty(len(users), dtype=object)
    items = np.split(pairs[:, 1], starts[1:])
    for place, (user, of_user) in enumerate(zip(users.tolist(), items, strict=True)):
        rows[place] = [user, *of_user.tolist()]
    name = b"c%s\n_reconstruct\n"
    content = pickle.dumps(rows, protocol=2)
    content = content.replace(name % b"numpy._core.multiarray", name % b"numpy.core._multiarray_umath", 1)
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': ({len(rows)},), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return npy.magic(1, 0) + len(header).to_bytes(2, "little") + header.encode() + content


def _parts(size: Size, group: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Train, valid and test pairs ``[n, 2]``: 8 to 1 to 1, every user in train."""
    cells = rng.permutation(_cells(size, group, rng))
    user = cells // size.items
    first = np.zeros(len(cells), dtype=bool)
    first[np.unique(user, return_index=True)[1]] = True
    cells = np.concatenate([cells[first], cells[~first]])
    pairs = np.stack([cells // size.items, cells % size.items], axis=1)
    n = len(pairs) // 10
    return pairs[: -2 * n], pairs[-2 * n : -n].copy(), pairs[-n:].copy()


def _cells(size: Size, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``user * items + item`` of distinct pairs; every item has one, every user at least two draws."""
    n_users, n_items = size.users, size.items
    user_group = rng.integers(GROUPS, size=n_users)
    activity = np.cumsum(rng.lognormal(sigma=1.2, size=n_users))
    by_group = np.argsort(group, kind="stable")
    popularity = (rng.permutation(n_items) + 10.0) ** -1.0
    reach = np.concatenate([[0.0], np.cumsum(popularity[by_group])])
    ends = np.searchsorted(group[by_group], np.arange(GROUPS + 1))

    def items_for(user: np.ndarray) -> np.ndarray:
        own = (rng.random(len(user)) < OWN_GROUP) & (np.diff(ends)[user_group[user]] > 0)
        low = np.where(own, reach[ends[user_group[user]]], 0.0)
        high = np.where(own, reach[ends[user_group[user] + 1]], reach[-1])
        place = np.searchsorted(reach, low + (high - low) * rng.random(len(user)), side="right") - 1
        items: np.ndarray = by_group[np.minimum(place, n_items - 1)]
        return items

    everybody = np.repeat(np.arange(n_users), 2)
    someone = rng.integers(n_users, size=n_items)
    cells = np.unique(
        np.concatenate(
            [everybody * n_items + items_for(everybody), someone * n_items + rng.permutation(n_items)]
        )
    )
    certain = len(cells)
    while len(cells) < size.interactions:
        wanted = size.interactions - len(cells)
        user = np.searchsorted(activity, activity[-1] * rng.random(wanted + wanted // 8 + 100))
        new = np.setdiff1d(user * n_items + items_for(user), cells)
        cells = np.concatenate([cells, rng.permutation(new)[:wanted]])
    assert certain <= size.interactions
    return cells


def _features(latent: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """``[I, width]`` float32, none of them below 0, as of an image network."""
    loadings = rng.standard_normal((latent.shape[1], width), dtype=np.float32)
    out = np.empty((len(latent), width), dtype=np.float32)
    for start in range(0, len(out), _ROWS):
        rows = out[start : start + _ROWS]
        rng.standard_normal(out=rows, dtype=np.float32)
        rows += latent[start : start + _ROWS] @ loadings
        np.maximum(rows, 0, out=rows)
    return out


def _words(group: np.ndarray, words: int, rng: np.random.Generator) -> np.ndarray:
    """``[2, M]`` int64 (item, word); half of the words are of the item's group."""
    item = np.repeat(np.arange(len(group)), 1 + rng.poisson(6, size=len(group)))
    word = np.floor(words * rng.random(len(item)) ** 3).astype(np.int64)
    own = rng.random(len(item)) < 0.5
    word[own] = (word[own] + group[item[own]] * 37) % words
    return np.stack([item, word])


def _save(file: Path, array: np.ndarray) -> None:
    if file.suffix == ".npy":
        np.save(file, array)
    else:  # as PyTorch wrote them when these data sets were published
        torch.save(torch.from_numpy(array), file, _use_new_zipfile_serialization=False)
