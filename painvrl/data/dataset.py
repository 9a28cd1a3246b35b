"""A data set as the readers in ``sources/`` deliver it, before any split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.data.provenance import Provenance

BATCH = "batch"
"""The column of the items that says which of them a shift of features has changed."""


@dataclass(frozen=True, kw_only=True)
class Modality:
    """Raw features of the items, in the order of ``Dataset.item_ids``.

    Attributes:
        values: ``[I, F_a]`` float32, finite; rows of absent items are zeros.
        present: ``[I]`` bool: the item has this modality.
    """

    values: Tensor
    present: Tensor


@dataclass(frozen=True, kw_only=True)
class PlantedTruth:
    """What only planted data knows.

    Attributes:
        environment: ``[N]`` int64, the environment that drew each interaction; -1 for OOD rows.
        part: ``[N]`` int64, 0 for interactions like the training data, 1 for OOD ones.
        mask: ``[F]`` float32, 1 on invariant features.
        kind: ``[F]`` names of the features' kinds: ``invariant``, ``spurious``, ``noise``.
        bayes_accuracy: share of labels that the best possible classifier gets right.
    """

    environment: Tensor
    part: Tensor
    mask: Tensor
    kind: tuple[str, ...]
    bayes_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What is known of interactions, items and users beside their ids; splits group and order by it.

    Attributes:
        time: ``[N]`` float64 in seconds, or None.
        interaction: by name, ``[N]`` labels (str objects: only a long label takes much room). ``part`` is the
            files' own split: ``train``, ``valid``, ``test``.
        item: by name, ``[I]`` labels; the empty one where nothing is known.
        user: by name, ``[U]`` labels.
        contradictions: by the name of a column of interactions, why no split may go by it: rows of one
            (user, item) pair differed in it, and one of them was kept.
    """

    time: Tensor | None = None
    interaction: Mapping[str, np.ndarray] = field(default_factory=dict)
    item: Mapping[str, np.ndarray] = field(default_factory=dict)
    user: Mapping[str, np.ndarray] = field(default_factory=dict)
    contradictions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Interactions with raw ids, titles and modalities.

    Attributes:
        name: a short name for tables.
        interactions: all of them, on the CPU, without duplicates.
        user_ids: ``[U]`` raw ids as they stand in the files, str objects; ``user_ids[u]`` is of user ``u``.
        item_ids: ``[I]`` raw ids.
        titles: ``I`` titles, for people (the raw id where none is known).
        modalities: by name, in the order in which they are concatenated.
        columns: what splits may group and order by.
        truth: only for planted data.
        provenance: how it came from its files.
        fingerprint: hex digest of everything above that training can see; of planted data, of the
            configuration and the seed that made them.
    """

    name: str
    interactions: Interactions
    user_ids: np.ndarray
    item_ids: np.ndarray
    titles: tuple[str, ...]
    modalities: Mapping[str, Modality] = field(default_factory=dict)
    columns: Columns = field(default_factory=Columns)
    truth: PlantedTruth | None = None
    provenance: Provenance = field(default_factory=Provenance)
    fingerprint: str
